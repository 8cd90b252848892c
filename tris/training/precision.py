"""Which arithmetic a machine is good at."""

from pathlib import Path
from typing import Literal

import torch

from tris.errors import InputError
from tris.training.settings import Precision

Mixed = Literal["no", "bf16", "fp16"]
_FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def choose_mixed_precision(precision: Precision) -> Mixed:
    """Return Accelerate's word for a precision; ``auto`` looks at the processor.

    Raises:
        InputError: If fp16 is asked for without a GPU.
    """
    if precision == "fp32":
        return "no"
    if precision == "fp16":
        if not torch.cuda.is_available():
            raise InputError("precision=fp16 needs a GPU; use bf16, fp32 or auto here.")
        return "fp16"
    if precision == "bf16":
        return "bf16"
    return "bf16" if _computes_in_bf16() else "no"


def _computes_in_bf16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    description = Path("/proc/cpuinfo")
    if not description.is_file():
        return False
    return bool(_FAST_BF16 & set(description.read_text().split()))
