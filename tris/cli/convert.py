"""`tris convert`: released weights become a model directory."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from torch import Tensor

from tris.data.tokens import build_tokenizer
from tris.encoders.weights import is_state, read_container
from tris.errors import InputError, exits_cleanly
from tris.model_directory import PretrainedModel
from tris.segmenters.dmmi.released import BERT_PART, convert_dmmi
from tris.segmenters.mabp.released import convert_mabp
from tris.segmenters.tris_net_released import convert_stage_one, convert_stage_two

Source = Literal["tris-stage1", "tris-stage2", "dmmi", "mabp"]

CONVERTERS: dict[str, Callable[[dict[str, Tensor]], PretrainedModel]] = {
    "tris-stage1": convert_stage_one,
    "tris-stage2": convert_stage_two,
    "dmmi": convert_dmmi,
    "mabp": convert_mabp,
}
"""What turns the state dict of each kind of released checkpoint into a network of ours."""

FURTHER_PARTS: dict[str, tuple[str, ...]] = {"dmmi": (BERT_PART,)}
"""State dicts beside ``model`` in the files of a kind; their keys get the part's name in front."""


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
    parts = FURTHER_PARTS.get(wanted.source, ())
    network = CONVERTERS[wanted.source](read_checkpoint(wanted.file, *parts))
    missing = add_tokenizer(network)
    network.save_pretrained(wanted.out)
    print(f"{wanted.out}: a {type(network).__name__} from {wanted.file}.{missing}")


def add_tokenizer(network: PretrainedModel) -> str:
    """Let a network carry its tokenizer; return what to say where that is not here.

    Nothing is fetched: a file is converted without a network, too.
    """
    wanted = network.input_spec.tokenizer
    try:
        tokenizer = build_tokenizer(wanted, assets=network.assets, may_download=False)
    except InputError as error:
        return f" Its tokenizer is not in there and will be looked for again in use: {error}"
    network.assets.update(tokenizer.assets)
    return ""


def read_checkpoint(path: Path, *parts: str) -> dict[str, Tensor]:
    """Return the state dict under ``model`` of a released checkpoint, and those of other parts.

    A key of another part has its name in front: ``part.key``.

    Raises:
        InputError: If the file is missing, damaged, holds anything else, or has no ``model``.
    """
    content = read_container(path)
    state = _state_under("model", content, path)
    for part in parts:
        further = _state_under(part, content, path)
        state |= {f"{part}.{key}": value for key, value in further.items()}
    return state


def _state_under(name: str, content: object, path: Path) -> dict[str, Tensor]:
    state = content.get(name) if isinstance(content, dict) else None
    if not is_state(state):
        raise InputError(f"{path} has no dictionary of weights under '{name}', as releases have.")
    return dict(state)
