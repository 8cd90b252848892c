"""Released TRIS checkpoints in our names: which config they need, which key becomes which."""

import re
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from tris.batch import InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig
from tris.errors import InputError
from tris.model_directory import PretrainedModel, load_state
from tris.response.response_net import ResponseNet, ResponseNetConfig
from tris.segmenters.tris_net import TrisNet, TrisNetConfig

State = dict[str, Tensor]
Network = TypeVar("Network", bound=PretrainedModel)

RELEASED_INPUT = InputSpec(
    image_size=(320, 320), tokenizer=TokenizerConfig(context_length=20, keep_end_token=False)
)
"""ImageNet statistics, and sentences cut at 20 tokens even where the end token is lost: the
released networks were trained so, and give their own numbers only when fed so."""

_CONV_BLOCK = {"conv": "convolution", "bn": "norm", "relu": "activation"}
_ATTENTION = {
    "Wq": "query",
    "ins_q": "query_norm",
    "Wk": "key",
    "Wv": "value",
    "Ww": "gate",
    "ins_w": "gate_norm",
    "Wm": "visual",
    "Wo": "output",
}
_POINTWISE_OVER_WORDS = ("Wk", "Wv", "Ww")
_PROMPT = {
    "v_proj1": "visual_query",
    "v_proj2": "visual_key",
    "v_proj3": "visual_value",
    "t_proj1": "text_query",
    "t_proj2": "text_key",
    "t_proj3": "text_value",
    "v_output": "visual_output",
    "t_output": "text_output",
}


def convert_stage_one(state: State) -> ResponseNet:
    """Return the stage-1 network that a released state dict describes.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    config = ResponseNetConfig(
        encoder=_find_encoder(state), input_spec=RELEASED_INPUT, prompt_attention="texts"
    )
    return _load(config.build(pretrained=False), _rename_all(state, _rename_stage_one))


def convert_stage_two(state: State) -> TrisNet:
    """Return the segmentation network that a released state dict describes.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    config = TrisNetConfig(encoder=_find_encoder(state), input_spec=RELEASED_INPUT)
    renamed = _rename_all(state, _rename_stage_two)
    for key in state:
        attention = re.fullmatch(r"attention\d\.(\w+)\.weight", key)
        if attention and attention[1] in _POINTWISE_OVER_WORDS:
            renamed[_rename_stage_two(key)] = state[key].flatten(1)
    return _load(config.build(pretrained=False), renamed)


def _find_encoder(state: State) -> ClipConfig:
    """Tell RN50 from RN101 by the depth of the third stage: 6 blocks or 23."""
    depth = len({key.split(".")[3] for key in state if key.startswith("backbone.visual.layer3.")})
    architectures = {6: "RN50-quickgelu", 23: "RN101-quickgelu"}
    if depth not in architectures:
        raise InputError(
            f"The third stage of `backbone.visual` has {depth} blocks, but released TRIS weights "
            "have 6 (RN50) or 23 (RN101); name a checkpoint of TRIS itself."
        )
    return ClipConfig(architecture=architectures[depth], pretrained="")


def _rename_stage_one(key: str) -> str:
    part, _, rest = key.partition(".")
    if part == "attn_fusion":
        name, _, inner = rest.partition(".")
        return f"prompt.{_PROMPT.get(name, name)}.{inner}"
    parts = {
        "backbone": "encoder.clip",
        "vis_project": "visual_projection",
        "lan_project": "text_projection",
    }
    return key.replace(part, parts.get(part, part), 1)


def _rename_stage_two(key: str) -> str:
    part, _, rest = key.partition(".")
    if part == "backbone":
        return f"encoder.clip.{rest}"
    numbered = re.fullmatch(r"(attention|reduced_c|output|final_seg)([1-4])", part)
    if numbered is None:
        return key
    kind, number = numbered[1], int(numbered[2])
    if kind == "attention":
        return f"fusions.{number - 2}.{_rename_part(rest, _ATTENTION)}"
    name = {"reduced_c": "laterals", "output": "blocks", "final_seg": "heads"}[kind]
    return f"decoder.{name}.{number - 1}.{_rename_part(rest, _CONV_BLOCK)}"


def _rename_part(key: str, names: dict[str, str]) -> str:
    return ".".join(names.get(part, part) for part in key.split("."))


def _rename_all(state: State, rename: Callable[[str], str]) -> State:
    return {rename(key): value for key, value in state.items()}


def _load(network: Network, state: State) -> Network:
    load_state(network, state, source="the released checkpoint")
    return network.eval()
