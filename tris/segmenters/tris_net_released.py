"""Released TRIS checkpoints in our names: which config they need, which key is which weight."""

import re

from torch import Tensor

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig
from tris.errors import InputError
from tris.response import released as stage_one
from tris.response.response_net import ResponseNet, ResponseNetConfig
from tris.segmenters.released import load_released
from tris.segmenters.tris_net import TrisNet, TrisNetConfig

State = dict[str, Tensor]

RELEASED_INPUT = InputSpec(
    image_size=(320, 320), tokenizer=TokenizerConfig(context_length=20, keep_end_token=False)
)
"""ImageNet statistics, and sentences cut at 20 tokens even where the end token is lost: the
released networks were trained so, and give their own numbers only when fed so."""

_DECODER_NAMES = {"laterals": "reduced_c", "blocks": "output", "heads": "final_seg"}
_BLOCK_NAMES = {"convolution": "conv", "norm": "bn", "activation": "relu"}
_ATTENTION_NAMES = {
    "query": "Wq",
    "query_norm": "ins_q",
    "key": "Wk",
    "value": "Wv",
    "gate": "Ww",
    "gate_norm": "ins_w",
    "visual": "Wm",
    "output": "Wo",
}


def released_key(key: str) -> str:
    """Return the released name of one of `TrisNet`'s weights.

    >>> released_key("encoder.clip.visual.conv1.weight")
    'backbone.visual.conv1.weight'
    >>> released_key("fusions.0.query_norm.bias")
    'attention2.ins_q.bias'
    >>> released_key("decoder.heads.3.0.convolution.weight")
    'final_seg4.0.conv.weight'
    """
    if key.startswith("encoder.clip."):
        return f"backbone.{key.removeprefix('encoder.clip.')}"
    part, *names = key.split(".")
    if part == "fusions":
        level, name, kind = names
        return f"attention{int(level) + 2}.{_ATTENTION_NAMES[name]}.{kind}"
    kind, level, *rest = names
    released = ".".join(_BLOCK_NAMES.get(name, name) for name in rest)
    return f"{_DECODER_NAMES[kind]}{int(level) + 1}.{released}"


def convert_stage_one(state: State) -> ResponseNet:
    """Return the stage-1 network that a released state dict describes.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    config = ResponseNetConfig(encoder=_find_encoder(state), input_spec=RELEASED_INPUT)
    return load_released(config.build(pretrained=False), state, stage_one.released_key)


def convert_stage_two(state: State) -> TrisNet:
    """Return the segmentation network that a released state dict describes.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    config = TrisNetConfig(encoder=_find_encoder(state), input_spec=RELEASED_INPUT)
    return load_released(config.build(pretrained=False), state, released_key)


def _find_encoder(state: State) -> ClipConfig:
    """Tell RN50 from RN101 by the depth of the third stage: 6 blocks or 23."""
    blocks = {
        found[1]
        for found in (re.match(r"backbone\.visual\.layer3\.(\d+)\.", key) for key in state)
        if found
    }
    architectures = {6: "RN50-quickgelu", 23: "RN101-quickgelu"}
    if len(blocks) not in architectures:
        raise InputError(
            f"The third stage of `backbone.visual` has {len(blocks)} blocks, but released TRIS "
            "weights have 6 (RN50) or 23 (RN101); name a checkpoint of TRIS itself."
        )
    return ClipConfig(architecture=architectures[len(blocks)], pretrained="")
