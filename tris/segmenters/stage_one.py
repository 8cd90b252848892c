"""What a segmenter takes over from a model directory of an earlier stage."""

from pathlib import Path
from typing import NamedTuple

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.clip import ClipEncoder
from tris.errors import InputError
from tris.model_directory import PretrainedModel


class ClipSource(NamedTuple):
    """A CLIP out of a model directory, and how it wants its sentences.

    Attributes:
        clip: With its weights.
        tokenizer: The one it was trained with.
        assets: Files of that directory (a tokenizer), by name.
    """

    clip: ClipEncoder
    tokenizer: TokenizerConfig
    assets: dict[str, bytes]


def load_clip_source(directory: Path | str) -> ClipSource:
    """Return the CLIP in the model directory of a CLIP, of stage 1, or of a segmenter.

    Raises:
        InputError: If the network there holds no CLIP as its ``encoder``.
    """
    if not str(directory):
        raise InputError(
            "The segmenter wants to start from stage 1; name the model directory of a stage-1 "
            "network in `stage1_directory`."
        )
    network = PretrainedModel.from_pretrained(directory)
    clip = network if isinstance(network, ClipEncoder) else getattr(network, "encoder", None)
    if not isinstance(clip, ClipEncoder):
        raise InputError(
            f"{directory} holds a {type(network).__name__}, which has no CLIP to start from; "
            "name the model directory of a CLIP or of a stage-1 network."
        )
    input_spec = getattr(network, "input_spec", None)
    assert isinstance(input_spec, InputSpec), "every network with a CLIP says what it is fed"
    return ClipSource(clip, input_spec.tokenizer, dict(network.assets))


def check_same_input(first: PretrainedModel, second: PretrainedModel) -> None:
    """Make sure that two networks can be fed the same batch.

    Raises:
        InputError: If normalisation or tokenizer differ; image sizes may.
    """
    differing = [
        name
        for name in ("mean", "std", "tokenizer")
        if getattr(first.input_spec, name) != getattr(second.input_spec, name)
    ]
    differing += [
        f"the file {name}"
        for name in first.assets.keys() & second.assets.keys()
        if first.assets[name] != second.assets[name]
    ]
    if differing:
        raise InputError(
            f"{type(first).__name__} and {type(second).__name__} cannot share a batch, because "
            f"{', '.join(differing)} differ; give the segmenter the input_spec of its stage-1 "
            "network."
        )
