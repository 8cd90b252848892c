"""Released MABP checkpoints in our names: what their shapes say, which key is which weight."""

import re
from typing import NamedTuple

from torch import Tensor

from tris.encoders.bert import BertConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.errors import InputError
from tris.model_directory import load_state
from tris.segmenters.mabp.config import BERT_INPUT, MabpConfig
from tris.segmenters.mabp.decoder import NUM_HEADS, DecoderConfig
from tris.segmenters.mabp.network import Mabp
from tris.segmenters.mabp.pixel_decoder import PixelDecoderConfig

State = dict[str, Tensor]

_UNUSED = re.compile(r"relative_position_index$|^text_encoder\.embeddings\.position_ids$")
"""Tables of numbers that the networks of today compute themselves."""

_FEATURES_PER_HEAD = 64
"""Of BERT: its weights do not tell the number of heads."""

_RULES = [
    (r"^words\.bert\.", "text_encoder."),
    (r"^encoder\.backbone\.embeddings\.patch_embeddings\.projection", "backbone.patch_embed.proj"),
    (r"^encoder\.backbone\.embeddings\.norm", "backbone.patch_embed.norm"),
    (r"^encoder\.backbone\.layers", "backbone.layers"),
    (r"^(backbone.*)\.layernorm_before", r"\1.norm1"),
    (r"^(backbone.*)\.layernorm_after", r"\1.norm2"),
    (r"^(backbone.*)\.attention\.[qkv]_proj", r"\1.attn.qkv"),
    (r"^(backbone.*)\.attention\.o_proj", r"\1.attn.proj"),
    (r"^(backbone.*)\.attention\.relative_position_bias\.", r"\1.attn."),
    (r"^encoder\.fusions\.(\d)\.visual", r"backbone.layers.\1.fusion.vis_project.0"),
    (r"^encoder\.fusions\.(\d)\.(query|key|value)\.",
     r"backbone.layers.\1.fusion.image_lang_att.f_\2.0."),
    (r"^encoder\.fusions\.(\d)\.gathered", r"backbone.layers.\1.fusion.image_lang_att.W.0"),
    (r"^encoder\.fusions\.(\d)\.output", r"backbone.layers.\1.fusion.project_mm.0"),
    (r"^encoder\.gates\.(\d)\.first", r"backbone.layers.\1.res_gate.0"),
    (r"^encoder\.gates\.(\d)\.second", r"backbone.layers.\1.res_gate.2"),
    (r"^encoder\.norms\.", "backbone.norm"),
    (r"^pixel_decoder\.decoder\.(level_embed|encoder\.)",
     r"sem_seg_head.pixel_decoder.transformer.\1"),
    (r"^pixel_decoder\.decoder\.input_projections", "sem_seg_head.pixel_decoder.input_proj"),
    (r"^pixel_decoder\.decoder\.mask_projection", "sem_seg_head.pixel_decoder.mask_features"),
    (r"^pixel_decoder\.decoder\.(adapter_1|layer_1)\.0", r"sem_seg_head.pixel_decoder.\1"),
    (r"^pixel_decoder\.decoder\.(adapter_1|layer_1)\.1", r"sem_seg_head.pixel_decoder.\1.norm"),
    (r"^(sem_seg_head\.pixel.*)\.self_attn_layer_norm", r"\1.norm1"),
    (r"^(sem_seg_head\.pixel.*)\.final_layer_norm", r"\1.norm2"),
    (r"^(sem_seg_head\.pixel.*)\.fc([12])\.", r"\1.linear\2."),
    (r"^decoder\.", "sem_seg_head.predictor."),
    (r"predictor\.generator\.regions", "predictor.query_feat"),
    (r"predictor\.generator\.query_norm", "predictor.langq_norm"),
    (r"predictor\.generator\.(?:(q)uery|(k)ey|(v)alue|(o)utput)", r"predictor.lang\1\2\3\4_proj"),
    (r"predictor\.query_positions", "predictor.query_embed"),
    (r"predictor\.word_positions", "predictor.lang_query_embed"),
    (r"predictor\.level_embedding", "predictor.level_embed"),
    (r"predictor\.layers\.(\d+)\.word_mixing", r"predictor.layer_embed.\1"),
    (r"predictor\.layers\.(\d+)\.cross_attention\.(input|output)",
     r"predictor.MMD_cross_attention.\1.multihead_attn.\2"),
    (r"predictor\.layers\.(\d+)\.cross_attention", r"predictor.MMD_cross_attention.\1"),
    (r"predictor\.layers\.(\d+)\.self_attention\.(input|output)",
     r"predictor.MMD_self_attention.\1.self_attn.\2"),
    (r"predictor\.layers\.(\d+)\.self_attention", r"predictor.MMD_self_attention.\1"),
    (r"attn\.input\.", "attn.in_proj_"),
    (r"attn\.output\.", "attn.out_proj."),
    (r"predictor\.layers\.(\d+)\.feed_forward", r"predictor.transformer_ffn_layers.\1"),
    (r"(ffn_layers\.\d+)\.first", r"\1.linear1"),
    (r"(ffn_layers\.\d+)\.second", r"\1.linear2"),
    (r"predictor\.pyramid\.(lateral|output)s", r"predictor.\1_convs"),
    (r"predictor\.heads\.(\d)\.norm", r"predictor.decoder_norm.\1"),
    (r"predictor\.heads\.(\d)\.mask_embedding", r"predictor.mask_embed.\1"),
    (r"predictor\.heads\.(\d)\.no_target\.region", r"predictor.pooler_src_proj.\1"),
    (r"predictor\.heads\.(\d)\.no_target\.query", r"predictor.nt_emb_proj.\1"),
    (r"predictor\.heads\.(\d)\.no_target\.sentence", r"predictor.nt_lang_emb_proj.\1"),
    (r"predictor\.heads\.(\d)\.no_target\.judge", r"predictor.nt_embed.\1"),
]  # fmt: skip
"""Patterns and what takes their place, one after the other."""


class Source(NamedTuple):
    """Where a weight lies in a released checkpoint.

    Attributes:
        key: Released name.
        third: Which third of its first axis, or None = all of it: queries, keys and values of a
            Swin block are one matrix there.
    """

    key: str
    third: int | None = None


def released_source(key: str) -> Source:
    """Return where one of `Mabp`'s weights comes from.

    >>> released_source("encoder.backbone.layers.2.blocks.0.attention.k_proj.weight")
    Source(key='backbone.layers.2.blocks.0.attn.qkv.weight', third=1)
    >>> released_source("decoder.generator.query_norm.bias").key
    'sem_seg_head.predictor.langq_norm.bias'
    >>> released_source("decoder.layers.8.cross_attention.input.weight").key
    'sem_seg_head.predictor.MMD_cross_attention.8.multihead_attn.in_proj_weight'
    """
    found = re.match(r"encoder\.backbone\..*attention\.([qkv])_proj\.", key)
    for pattern, replacement in _RULES:
        key = re.sub(pattern, replacement, key)
    return Source(key, "qkv".index(found[1]) if found else None)


def convert_mabp(state: State) -> Mabp:
    """Return the network that a released state dict describes, the single-object variant too.

    Raises:
        InputError: Lists keys that are missing, left over or of another shape.
    """
    network = describe(state).build(pretrained=False)
    own = network.state_dict()
    sources = {key: released_source(key) for key in own}
    wanted = {source.key for source in sources.values()}
    there = {key for key in state if not _UNUSED.search(key)}
    missing, unexpected = sorted(wanted - there), sorted(there - wanted)
    if missing or unexpected:
        raise InputError(
            f"The released weights do not fit Mabp: missing {missing}, unexpected {unexpected}; "
            "check that the file is a checkpoint of MABP."
        )
    renamed = {key: take(state, source, like=own[key]) for key, source in sources.items()}
    load_state(network, renamed, source="the released checkpoint")
    return network.eval()


def take(state: State, source: Source, *, like: Tensor) -> Tensor:
    """Return a weight in our shape; pointwise convolutions have an axis more or less here."""
    value = state[source.key]
    if source.third is not None:
        value = value.chunk(3)[source.third]
    is_pointwise = value.shape[:2] == like.shape[:2] and value.numel() == like.numel()
    return value.reshape(like.shape) if is_pointwise else value


def describe(state: State) -> MabpConfig:
    """Read the sizes of a released network off its weights.

    Raises:
        InputError: If it has not the parts that MABP has.
    """
    try:
        return MabpConfig(
            encoder=VisionLanguageConfig(swin=_describe_swin(state), bert=_describe_bert(state)),
            input_spec=BERT_INPUT,
            pixel_decoder=_describe_pixel_decoder(state),
            decoder=_describe_decoder(state),
        )
    except KeyError as error:
        raise InputError(
            f"The released weights do not fit Mabp: missing [{error}]; check that the file is a "
            "checkpoint of MABP."
        ) from error


def _describe_swin(state: State) -> SwinConfig:
    tables = [
        state[f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        for stage in range(4)
    ]
    depths = [_count(state, rf"backbone\.layers\.{stage}\.blocks\.(\d+)\.") for stage in range(4)]
    return SwinConfig(
        pretrained="",
        embed_dim=len(state["backbone.patch_embed.proj.weight"]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
        num_heads=(
            tables[0].shape[1], tables[1].shape[1], tables[2].shape[1], tables[3].shape[1],
        ),
        window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
    )  # fmt: skip


def _describe_bert(state: State) -> BertConfig:
    words = state["text_encoder.embeddings.word_embeddings.weight"]
    return BertConfig(
        pretrained="",
        vocabulary_size=words.shape[0],
        dim=words.shape[1],
        num_layers=_count(state, r"text_encoder\.encoder\.layer\.(\d+)\."),
        num_heads=max(1, words.shape[1] // _FEATURES_PER_HEAD),
        feedforward_dim=len(state["text_encoder.encoder.layer.0.intermediate.dense.weight"]),
        max_tokens=len(state["text_encoder.embeddings.position_embeddings.weight"]),
    )


def _describe_pixel_decoder(state: State) -> PixelDecoderConfig:
    prefix = "sem_seg_head.pixel_decoder.transformer.encoder.layers"
    places_per_head = 3 * 4 * 2  # levels, points, coordinates
    return PixelDecoderConfig(
        num_layers=_count(state, re.escape(prefix) + r"\.(\d+)\."),
        num_attention_heads=len(state[f"{prefix}.0.self_attn.sampling_offsets.bias"])
        // places_per_head,
        feedforward_dim=len(state[f"{prefix}.0.linear1.bias"]),
    )


def _describe_decoder(state: State) -> DecoderConfig:
    prefix = "sem_seg_head.predictor"
    regions = state[f"{prefix}.query_feat.weight"]
    num_layers = _count(state, re.escape(prefix) + r"\.layer_embed\.(\d+)\.")
    has_no_target = any(key.startswith(f"{prefix}.nt_") for key in state)
    return DecoderConfig(
        dim=regions.shape[1],
        num_regions=regions.shape[0],
        feedforward_dim=len(state[f"{prefix}.transformer_ffn_layers.0.linear1.bias"]),
        layers_per_level=num_layers // (NUM_HEADS - 1),
        num_no_target_heads=NUM_HEADS if has_no_target else 0,
    )


def _count(state: State, pattern: str) -> int:
    """Return how many numbers the pattern's group has among the keys."""
    return len({found[1] for found in (re.match(pattern, key) for key in state) if found})
