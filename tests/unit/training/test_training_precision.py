from pathlib import Path

import pytest
import torch

from tris.errors import InputError
from tris.training import precision
from tris.training.precision import choose_mixed_precision


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """A machine without GPU whose processor has the given flags."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def pretend(flags):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
        monkeypatch.setattr(precision, "Path", lambda _: tmp_path / "cpuinfo")

    return pretend


def test_fp32_is_no_mixed_precision():
    assert choose_mixed_precision("fp32") == "no"


def test_bf16_is_taken_at_its_word(processor):
    processor("sse avx2")
    assert choose_mixed_precision("bf16") == "bf16"


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_auto_is_bf16_where_the_processor_computes_in_it(processor, flag):
    processor(f"sse avx2 {flag} popcnt")
    assert choose_mixed_precision("auto") == "bf16"


def test_auto_is_fp32_elsewhere(processor):
    processor("sse avx2 avx512f not_bf16_at_all")
    assert choose_mixed_precision("auto") == "no"


def test_auto_is_fp32_where_nothing_is_known_of_the_processor(processor, monkeypatch):
    processor("")
    monkeypatch.setattr(precision, "Path", lambda _: Path("/there/is/no/such/file"))
    assert choose_mixed_precision("auto") == "no"


def test_fp16_without_a_gpu_is_refused(processor):
    processor("avx512_bf16")
    with pytest.raises(InputError, match="needs a GPU"):
        choose_mixed_precision("fp16")
