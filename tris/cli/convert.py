"""`tris convert`: released weights become a model directory."""

import argparse
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from tris.errors import InputError, exits_cleanly
from tris.model_directory import PretrainedModel
from tris.segmenters.released import convert_stage_one, convert_stage_two

Source = Literal["tris-stage1", "tris-stage2"]

CONVERTERS: dict[str, Callable[[dict[str, Tensor]], PretrainedModel]] = {
    "tris-stage1": convert_stage_one,
    "tris-stage2": convert_stage_two,
}
"""What turns the state dict of each kind of released checkpoint into a network of ours."""


@dataclass(frozen=True)
class ConvertArguments:
    """Turn a released checkpoint into a model directory.

    Attributes:
        file: The released ``.pth`` file.
        source: What the file is.
        out: The model directory to make.
    """

    file: tyro.conf.Positional[Path]
    source: Annotated[Source, tyro.conf.arg(name="from")]
    out: Path


@exits_cleanly
def main(arguments: list[str]) -> None:
    """Run `tris convert` with command-line arguments."""
    wanted = tyro.cli(ConvertArguments, args=arguments, prog="tris convert")
    network = CONVERTERS[wanted.source](read_checkpoint(wanted.file))
    network.save_pretrained(wanted.out)
    print(f"{wanted.out}: a {type(network).__name__} from {wanted.file}.")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the state dict under ``model`` of a released checkpoint.

    Only tensors, plain containers, and an `argparse.Namespace` are unpickled: the released files
    carry their command line.

    Raises:
        InputError: If the file is missing, damaged, holds anything else, or has no ``model``.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is no checkpoint, or holds more than tensors and plain values and is not "
            f"opened for that reason ({reason})."
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged or no checkpoint ({error}).") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise InputError(f"{path} has no dictionary of weights under 'model', as releases have.")
    return state
