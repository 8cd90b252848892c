"""Files of pretrained weights, and what the libraries raise that read them."""

import argparse
import pickle
import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PretrainedConfig

from tris.errors import InputError, first_line

_HUB_ERRORS = (OSError, ValueError, SafetensorError)
"""What transformers raises: no connection, no such weights, files that end too early."""

_READ_ERRORS = (OSError, RuntimeError, EOFError, ValueError, SafetensorError)


def fetch_description(kind: type[PretrainedConfig], source: str, *, title: str) -> Any:  # noqa: ANN401 - transformers makes them by kind
    """Return the config that a folder or a public name of transformers has.

    Args:
        kind: Of config.
        source: Folder or name.
        title: Of the network, for a person.

    Raises:
        InputError: If it cannot be fetched or read.
    """
    try:
        return kind.from_pretrained(source)
    except _HUB_ERRORS as error:
        raise _absent(source, title, error) from error


def fetch_weights(kind: type[Any], source: str, *, title: str, **options: Any) -> dict[str, Tensor]:  # noqa: ANN401 - transformers' own
    """Return the weights that a folder or a public name of transformers has for a network.

    transformers would fill what these lack with random numbers; it is left out, so that whoever
    loads them finds it missing.

    Args:
        kind: Of network.
        source: Folder or name.
        title: Of the network, for a person.
        **options: What it is built with.

    Raises:
        InputError: If they cannot be fetched or read.
    """
    try:
        network, facts = kind.from_pretrained(source, output_loading_info=True, **options)
    except _HUB_ERRORS as error:
        raise _absent(source, title, error) from error
    missing = set(facts["missing_keys"])
    state = network.float().state_dict()
    return {key: weights for key, weights in state.items() if key not in missing}


def _absent(source: str, title: str, error: Exception) -> InputError:
    return InputError(
        f"The {title} weights '{source}' cannot be fetched or read ({first_line(error)}): give the "
        f"folder of a transformers {title}, or download it first."
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights in a safetensors file or a checkpoint of PyTorch.

    As open_clip does: those under ``state_dict`` if it has that, without ``module.`` in front of
    the names.

    Raises:
        InputError: If the file is damaged, or holds anything else.
    """
    content = read_container(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not is_state(state):
        raise InputError(f"{path} holds something else than weights by name.")
    return {str(name).removeprefix("module."): weights for name, weights in state.items()}


def is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Say whether this is weights by name."""
    return isinstance(content, dict) and all(isinstance(each, Tensor) for each in content.values())


def read_container(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return what a safetensors file or a checkpoint of PyTorch holds.

    Only tensors, plain containers, and an `argparse.Namespace` are unpickled: released checkpoints
    carry their command line.

    Raises:
        InputError: If the file is missing, damaged, or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            mapped = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is no file of weights, or holds more than tensors and plain values and is "
            "not opened for that reason."
        ) from error
    except _READ_ERRORS as error:
        raise InputError(
            f"{path} is damaged, or no file of weights ({type(error).__name__})."
        ) from error
