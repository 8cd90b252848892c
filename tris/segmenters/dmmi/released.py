"""Released DMMI checkpoints in our names: which config they need, which key is which weight."""

import dataclasses
import re

from torch import Tensor

from tris.encoders.bert import BertConfig
from tris.encoders.resnet import ResNetConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.errors import InputError
from tris.segmenters.dmmi.network import Dmmi, DmmiConfig
from tris.segmenters.released import load_released

State = dict[str, Tensor]

BERT_PART = "bert_model"
"""Under this name a released file holds the weights of BERT; see `convert_dmmi`."""

_RESNETS = {6: "resnet50", 23: "resnet101"}
_HEAD_WIDTH = 64
_DEAD = (
    r"classifier\.\w+\.decoder_layer\..*",
    r"backbone\.layers\.3\.res_gate\.[02]\.weight",
    r"backbone\.layers\.\d\.blocks\.\d+\.attn\.relative_position_index",
    rf"{BERT_PART}\.embeddings\.position_ids",
)
"""Templates that attention layers were copied from, the gate of a sum that nobody reads, and tables
that follow from the window size or count positions."""

_REGIONS = ("refineimg11", "refineimg33", "refineimg55")
_WINDOWS = ("refinelan11", "refinelan21", "refinelan31")
_SWIN_NAMES = {
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.norm": "patch_embed.norm",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.relative_position_bias.": "attn.",
    "attention.q_proj": "attn.query",
    "attention.k_proj": "attn.key",
    "attention.v_proj": "attn.value",
    "attention.o_proj": "attn.proj",
}
_FUSION_NAMES = {
    "visual": "fusion.vis_project.0",
    "output": "fusion.project_mm.0",
    "gate.0": "res_gate.0",
    "gate.2": "res_gate.2",
    "word_update": "W_l.0",
    "attention.region_weights": "fusion.image_lang_att.vis_weight",
    "attention.window_weights": "fusion.image_lang_att.lan_weight",
    "attention.word_value": "fusion.image_lang_att.f_value.0",
    "attention.visual_value": "fusion.image_lang_att.f_value_v.0",
    "attention.visual_output": "fusion.image_lang_att.W.0",
    "attention.word_output": "fusion.image_lang_att.W2.0",
}
_HEAD_NAMES = {
    "mask_decoder.head": "classifier.conv1_1",
    "mask_decoder.coarse_words": "classifier.transformer_fusion1.transformer_model.layers.0",
    "mask_decoder.middle_words": "classifier.transformer_fusion2.transformer_model.layers.0",
    "mask_decoder.summaries.0": "classifier.crossfuse1.linear",
    "mask_decoder.summaries.1": "classifier.crossfuse2.linear",
    "phrase_decoder.memory.0": "classifier.lan_func.conv1",
    "phrase_decoder.memory.1": "classifier.lan_func.bn1",
    "phrase_decoder.attention": "classifier.lan_func.transformer_model.layers.0",
    "word_summary": "contrastive.align_lan.0",
}
_LEVELS = {"coarse": 4, "middle": 3, "fine": 2}


def convert_dmmi(state: State) -> Dmmi:
    """Return the network that a released checkpoint describes.

    Args:
        state: The file's ``model``, and its ``bert_model`` under that prefix.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    alive = {key: value for key, value in state.items() if not _is_dead(key)}
    network = DmmiConfig(
        encoder=_find_encoder(alive), skips="residual" if _is_swin(alive) else "fused"
    ).build(pretrained=False)
    split = _split_projections(alive)
    is_swin = _is_swin(alive)

    def rename(key: str) -> str:
        return released_key(key, is_swin=is_swin)

    own = {rename(key): value for key, value in network.state_dict().items()}
    shaped = {key: _reshape(value, own.get(key)) for key, value in split.items()}
    return load_released(network, shaped, rename)


def released_key(key: str, *, is_swin: bool = True) -> str:
    """Return the released name of one of `Dmmi`'s weights.

    Swin's projections of query, key and value, one matrix as released, count as three.

    Args:
        key: Our name.
        is_swin: False = the released variant with a ResNet, whose fusions stand beside its layers.

    >>> released_key("encoder.vision.layers.2.blocks.7.attention.o_proj.bias")
    'backbone.layers.2.blocks.7.attn.proj.bias'
    >>> released_key("mask_decoder.middle.1.0.weight")
    'classifier.conv2_3.weight'
    """
    part, _, rest = key.partition(".")
    if part == "encoder":
        tower, _, name = rest.partition(".")
        return f"{BERT_PART}.{name.removeprefix('bert.')}" if tower == "words" else _vision(name)
    if part == "fusions":
        level, _, name = rest.partition(".")
        stage = f"layers.{level}" if is_swin else f"all_fusion{int(level) + 1}"
        return f"backbone.{stage}.{_fusion(name)}"
    if part == "skip_norms":
        return f"backbone.norm{rest}"
    for name, released in _HEAD_NAMES.items():
        if key.startswith(f"{name}."):
            return f"{released}{key.removeprefix(name)}"
    _, level, pair, layer, kind = key.split(".")
    return f"classifier.{'bn' if layer == '1' else 'conv'}{int(pair) + 1}_{_LEVELS[level]}.{kind}"


def _vision(name: str) -> str:
    if name.startswith("stem_layers."):
        return f"backbone.layer1.{name.removeprefix('stem_layers.')}"
    if name.startswith("stages."):
        _, level, rest = name.split(".", 2)
        return (
            f"backbone.layer1.4.{rest}"
            if level == "0"
            else f"backbone.layer{int(level) + 1}.{rest}"
        )
    for own, released in _SWIN_NAMES.items():
        name = name.replace(own, released)
    return f"backbone.{name}"


def _fusion(name: str) -> str:
    scale = re.fullmatch(r"attention\.(region|window)_(querie|key)s\.(\d)\.(.*)", name)
    if scale:
        kind, role, number, rest = scale.groups()
        branch = (_REGIONS if kind == "region" else _WINDOWS)[int(number)]
        layer, _, weight = rest.rpartition(".")
        projection = "f_key" if role == "key" else "f_query2" if layer == "gather" else "f_query"
        return f"fusion.image_lang_att.{branch}.{projection}.0.{weight}"
    for own, released in _FUSION_NAMES.items():
        if name == own or name.startswith(f"{own}."):
            return released + name.removeprefix(own)
    raise ValueError(f"{name} is no weight of a fusion.")


def _is_dead(key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in _DEAD)


def _is_swin(state: State) -> bool:
    return "backbone.patch_embed.proj.weight" in state


def _find_encoder(state: State) -> VisionLanguageConfig:
    encoder = VisionLanguageConfig(bert=_find_bert(state))
    if _is_swin(state):
        return dataclasses.replace(encoder, swin=_find_swin(state))
    depth = _count(state, r"backbone\.layer3\.(\d+)\.")
    if depth not in _RESNETS:
        raise InputError(
            "These weights have neither `backbone.patch_embed` (Swin) nor a ResNet's `layer3` of 6 "
            f"or 23 blocks (found {depth}); name a checkpoint of DMMI itself."
        )
    return dataclasses.replace(
        encoder, vision="resnet", resnet=ResNetConfig(_RESNETS[depth], pretrained="")
    )


def _find_swin(state: State) -> SwinConfig:
    tables = [
        state.get(f"backbone.layers.{level}.blocks.0.attn.relative_position_bias_table")
        for level in range(4)
    ]
    found = [table for table in tables if table is not None and table.ndim == 2]
    if len(found) < len(tables):
        raise InputError(
            "These weights lack `relative_position_bias_table` in a stage of "
            "`backbone.layers`; name a checkpoint of DMMI itself."
        )
    first, second, third, fourth = (
        (_count(state, rf"backbone\.layers\.{level}\.blocks\.(\d+)\."), table.shape[1])
        for level, table in enumerate(found)
    )
    return SwinConfig(
        pretrained="",
        embed_dim=len(state["backbone.patch_embed.proj.weight"]),
        depths=(first[0], second[0], third[0], fourth[0]),
        num_heads=(first[1], second[1], third[1], fourth[1]),
        window_size=(round(len(found[0]) ** 0.5) + 1) // 2,
    )


def _find_bert(state: State) -> BertConfig:
    embeddings = f"{BERT_PART}.embeddings"
    words = state.get(f"{embeddings}.word_embeddings.weight")
    positions = state.get(f"{embeddings}.position_embeddings.weight")
    inner = state.get(f"{BERT_PART}.encoder.layer.0.intermediate.dense.weight")
    if words is None or positions is None or inner is None:
        raise InputError(
            "The file has no weights of BERT under 'bert_model', as released DMMI files have; name "
            "a checkpoint of DMMI itself."
        )
    return BertConfig(
        pretrained="",
        vocabulary_size=len(words),
        dim=words.shape[1],
        num_layers=_count(state, rf"{BERT_PART}\.encoder\.layer\.(\d+)\."),
        num_heads=words.shape[1] // _HEAD_WIDTH,
        feedforward_dim=len(inner),
        max_tokens=len(positions),
    )


def _count(state: State, pattern: str) -> int:
    return len({found[1] for found in (re.match(pattern, key) for key in state) if found})


def _split_projections(state: State) -> State:
    """Part each matrix of query, key and value, stacked in this order."""
    split: State = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[key.replace(".qkv.", f".{name}.")] = part
        else:
            split[key] = value
    return split


def _reshape(value: Tensor, wanted: Tensor | None) -> Tensor:
    """Bring a convolution over a list to the linear layer or the map convolution that it is.

    A convolution over unfolded regions has its inputs in the order channel, row, column, just as
    the convolution over the map.
    """
    if wanted is None or value.ndim < 2 or wanted.ndim < 2:
        return value
    fits = value.flatten(1).shape == wanted.flatten(1).shape
    return value.reshape(wanted.shape) if fits else value
