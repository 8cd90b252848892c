"""Files of pretrained weights, and what the libraries raise that read them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tris.errors import InputError

HUB_ERRORS = (OSError, ValueError, SafetensorError)
"""What transformers raises: no connection, no such weights, files that end too early."""

_READ_ERRORS = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights in a safetensors file or a checkpoint of PyTorch.

    As open_clip does: those under ``state_dict`` if it has that, without ``module.`` in front of
    the names. Nothing but tensors and plain containers is unpickled.

    Raises:
        InputError: If the file is damaged, or holds anything else.
    """
    try:
        content: Any = _load(path)
    except _READ_ERRORS as error:
        raise InputError(
            f"{path} is damaged, or no file of weights ({type(error).__name__})."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise InputError(f"{path} holds something else than weights by name.")
    return {str(name).removeprefix("module."): weights for name, weights in state.items()}


def _load(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    mapped = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
