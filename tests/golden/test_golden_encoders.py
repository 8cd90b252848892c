"""Encoders and pixel decoder of released DMMI and MABP, written a second time.

There are no stored numbers of these parts. They come from transformers here, so their forward is
written again, from the published description with released names, under the fill rule: windows as
a mask over all pairs of cells, sampling places as sums over all cells.
"""

import importlib.util
import math

import pytest
import torch
import torch.nn.functional as F

from tris.cli.convert import CONVERTERS
from tris.encoders.bert import BertConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.segmenters.dmmi.attention import RegionQuery
from tris.segmenters.dmmi.released import released_key
from tris.segmenters.mabp import MabpConfig
from tris.segmenters.mabp.config import BERT_INPUT
from tris.segmenters.mabp.decoder import DecoderConfig
from tris.segmenters.mabp.pixel_decoder import PixelDecoderConfig
from tris.segmenters.mabp.released import released_source

pytestmark = pytest.mark.golden

WINDOW, HEADS, DEPTH = 4, (1, 2, 2, 4), 2
BERT_HEADS, POINTS, DEFORMABLE_HEADS = 2, 4, 4
TINY = MabpConfig(
    encoder=VisionLanguageConfig(
        swin=SwinConfig("", 16, (DEPTH,) * 4, HEADS, window_size=WINDOW),
        bert=BertConfig("", 60, dim=128, num_layers=2, num_heads=BERT_HEADS, feedforward_dim=96,
                        max_tokens=24, num_trained_layers=2),
    ),
    input_spec=BERT_INPUT,
    pixel_decoder=PixelDecoderConfig(2, DEFORMABLE_HEADS, 48),
    decoder=DecoderConfig(dim=64, feedforward_dim=32, layers_per_level=1, num_regions=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def fill_rule(reference):
    specification = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def released_shape(name: str, shape: torch.Size) -> tuple[int, ...]:
    if ".res_gate." in name or len(shape) < 2:
        return tuple(shape[:2])
    return (*shape[:2], 1) if ".fusion." in name else tuple(shape)


@pytest.fixture(scope="module")
def state(fill_rule):
    """The weights of a tiny MABP under released names and shapes."""
    shapes = {}
    for key, value in TINY.build(pretrained=False).state_dict().items():
        name, third = released_source(key)
        shape = released_shape(name, value.shape)
        shapes[name] = shape if third is None else (3 * shape[0], *shape[1:])
    return {name: torch.from_numpy(fill_rule.value(name, shape)) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def network(state):
    return CONVERTERS["mabp"](state)


@pytest.fixture(scope="module")
def sentences():
    mask = torch.arange(20) < torch.tensor([[7], [20]])
    return (torch.arange(40).view(2, 20) + 3) * mask, mask


class Published:
    """Released names and layouts."""

    def __init__(self, state):
        self.state = state

    def linear(self, name, x):
        weight = self.state[f"{name}.weight"]
        return F.linear(x, weight.flatten(1), self.state.get(f"{name}.bias"))

    def layer_norm(self, name, x, *, eps=1e-5):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, eps)

    def attend(self, queries, keys, values, scores):
        """Heads are the second axis; the scores come on top of the scaled products."""
        products = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
        return ((products + scores).softmax(dim=3) @ values).transpose(1, 2).flatten(2)

    def bert(self, ids, mask):
        state, name = self.state, "text_encoder.embeddings"
        words = state[f"{name}.word_embeddings.weight"][ids]
        words = words + state[f"{name}.position_embeddings.weight"][: ids.shape[1]]
        words = words + state[f"{name}.token_type_embeddings.weight"][0]
        words = self.layer_norm(f"{name}.LayerNorm", words, eps=1e-12)
        hidden = (1 - mask.float())[:, None, None] * -10000.0
        for number in range(2):
            place = f"text_encoder.encoder.layer.{number}"
            parts = [
                self.linear(f"{place}.attention.self.{part}", words)
                .unflatten(2, (BERT_HEADS, -1))
                .transpose(1, 2)
                for part in ("query", "key", "value")
            ]
            said = self.linear(f"{place}.attention.output.dense", self.attend(*parts, hidden))
            words = self.layer_norm(f"{place}.attention.output.LayerNorm", words + said, eps=1e-12)
            inner = F.gelu(self.linear(f"{place}.intermediate.dense", words))
            said = self.linear(f"{place}.output.dense", inner)
            words = self.layer_norm(f"{place}.output.LayerNorm", words + said, eps=1e-12)
        return words

    def swin_block(self, name, x, *, heads, shift):
        """Cells (B, H, W, C); windows are a mask over all pairs of cells."""
        height, width = x.shape[1:3]
        tall, wide = (math.ceil(side / WINDOW) * WINDOW for side in (height, width))
        y = self.layer_norm(f"{name}.norm1", x)
        y = F.pad(y, (0, 0, 0, wide - width, 0, tall - height)).flatten(1, 2)
        rows, columns = torch.meshgrid(torch.arange(tall), torch.arange(wide), indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        has_wrapped = 2 * (rows < shift) + (columns < shift)
        rows, columns = (rows - shift) % tall, (columns - shift) % wide
        window = rows // WINDOW * 1000 + columns // WINDOW
        down, right = rows[:, None] - rows, columns[:, None] - columns
        place = (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1
        is_near = window[:, None] == window
        table = self.state[f"{name}.attn.relative_position_bias_table"]
        scores = table[place.where(is_near, 0)].permute(2, 0, 1)
        scores = scores - 100.0 * (has_wrapped[:, None] != has_wrapped)
        scores = scores.masked_fill(~is_near, float("-inf"))
        parts = self.linear(f"{name}.attn.qkv", y).unflatten(2, (3, heads, -1))
        attended = self.attend(*parts.permute(2, 0, 3, 1, 4), scores)
        attended = self.linear(f"{name}.attn.proj", attended).unflatten(1, (tall, wide))
        x = x + attended[:, :height, :width]
        inner = F.gelu(self.linear(f"{name}.mlp.fc1", self.layer_norm(f"{name}.norm2", x)))
        return x + self.linear(f"{name}.mlp.fc2", inner)

    def merge(self, name, x):
        """Four neighbours become one cell: first down, then right."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.linear(f"{name}.reduction", self.layer_norm(f"{name}.norm", x))

    def fuse(self, name, x, words, mask):
        """LAVT: cells (B, N, C), words (B, T, C)."""

        def instance_norm(y):
            return F.instance_norm(y.transpose(1, 2)).transpose(1, 2)

        place, real = f"{name}.image_lang_att", mask.float()[..., None]
        queries = instance_norm(self.linear(f"{place}.f_query.0", x))
        keys = self.linear(f"{place}.f_key.0", words) * real
        values = self.linear(f"{place}.f_value.0", words) * real
        scores = queries @ keys.transpose(1, 2) / x.shape[2] ** 0.5
        hidden = 1e4 * real.transpose(1, 2) - 1e4
        said = (scores + hidden).softmax(dim=2) @ values
        said = instance_norm(self.linear(f"{place}.W.0", said))
        seen = F.gelu(self.linear(f"{name}.vis_project.0", x))
        return F.gelu(self.linear(f"{name}.project_mm.0", seen * said))

    def encode(self, images, words, mask):
        state = self.state
        x = F.conv2d(
            images,
            state["backbone.patch_embed.proj.weight"],
            state["backbone.patch_embed.proj.bias"],
            stride=4,
        )
        x = self.layer_norm("backbone.patch_embed.norm", x.permute(0, 2, 3, 1))
        pyramid = []
        for level, heads in enumerate(HEADS):
            name, size = f"backbone.layers.{level}", x.shape[1:3]
            for block in range(DEPTH):
                shift = WINDOW // 2 * (block % 2)
                x = self.swin_block(f"{name}.blocks.{block}", x, heads=heads, shift=shift)
            residual = self.fuse(f"{name}.fusion", x.flatten(1, 2), words, mask)
            residual = residual.unflatten(1, size)
            pyramid.append(self.layer_norm(f"backbone.norm{level}", residual).permute(0, 3, 1, 2))
            if level < 3:
                inner = self.linear(f"{name}.res_gate.0", residual).relu()
                gate = self.linear(f"{name}.res_gate.2", inner).tanh()
                x = self.merge(f"{name}.downsample", x + gate * residual)
        return pyramid

    def sines(self, height, width, dim):
        """Rows in the first half of the channels, columns in the second; sine, cosine, sine."""
        half = dim // 2
        pace = 10000.0 ** (2 * (torch.arange(half) // 2) / half)

        def wave(length):
            angle = (torch.arange(length) + 1.0) / (length + 1e-6) * 2 * math.pi
            angle = angle[:, None] / pace
            return torch.where(torch.arange(half) % 2 == 0, angle.sin(), angle.cos())

        rows = wave(height)[:, None].expand(height, width, half)
        columns = wave(width)[None].expand(height, width, half)
        return torch.cat([rows, columns], dim=2).flatten(0, 1)

    def convolve(self, name, norm, x):
        weight = self.state[f"{name}.weight"]
        x = F.conv2d(x, weight, self.state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)
        return F.group_norm(x, 32, self.state[f"{norm}.weight"], self.state[f"{norm}.bias"])

    def deform(self, name, x, positions, places, sizes):
        """Every cell reads a few places of every level; a place shares its four nearest cells."""
        points = (DEFORMABLE_HEADS, len(sizes), POINTS)
        asked = x + positions
        offsets = self.linear(f"{name}.sampling_offsets", asked).unflatten(2, (*points, 2))
        shares = self.linear(f"{name}.attention_weights", asked)
        shares = shares.unflatten(2, (points[0], -1)).softmax(dim=3).unflatten(3, points[1:])
        values = self.linear(f"{name}.value_proj", x).unflatten(2, (DEFORMABLE_HEADS, -1))
        values = values.split([height * width for height, width in sizes], dim=1)
        total = torch.zeros_like(x).unflatten(2, (DEFORMABLE_HEADS, -1))
        for level, (height, width) in enumerate(sizes):
            extent = torch.tensor([width, height])
            spot = places[None, :, None, None] * extent + offsets[:, :, :, level] - 0.5
            columns = (1 - (spot[..., :1] - torch.arange(width)).abs()).clamp(min=0)
            rows = (1 - (spot[..., 1:] - torch.arange(height)).abs()).clamp(min=0)
            near = torch.einsum("bnhpy,bnhpx,bnhp->bnhyx", rows, columns, shares[:, :, :, level])
            total = total + torch.einsum("bnhm,bmhc->bnhc", near.flatten(3), values[level])
        return self.linear(f"{name}.output_proj", total.flatten(2))

    def decode_pixels(self, pyramid):
        """Return the finest map, and the three others, coarsest first."""
        place = "sem_seg_head.pixel_decoder"
        finest, *others = pyramid
        others = others[::-1]
        sizes = [each.shape[2:] for each in others]
        maps = [
            self.convolve(f"{place}.input_proj.{i}.0", f"{place}.input_proj.{i}.1", each)
            for i, each in enumerate(others)
        ]
        x = torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1)
        levels = self.state[f"{place}.transformer.level_embed"]
        dim = levels.shape[1]
        positions = torch.cat([self.sines(*s, dim) + e for s, e in zip(sizes, levels, strict=True)])
        places = torch.cat(
            [
                torch.stack([(torch.arange(h * w) % w + 0.5) / w,
                             (torch.arange(h * w) // w + 0.5) / h], dim=1)
                for h, w in sizes
            ]
        )  # fmt: skip
        for number in range(2):
            name = f"{place}.transformer.encoder.layers.{number}"
            read = self.deform(f"{name}.self_attn", x, positions, places, sizes)
            x = self.layer_norm(f"{name}.norm1", x + read)
            inner = self.linear(f"{name}.linear2", self.linear(f"{name}.linear1", x).relu())
            x = self.layer_norm(f"{name}.norm2", x + inner)
        cells = x.split([h * w for h, w in sizes], dim=1)
        maps = [c.transpose(1, 2).unflatten(2, s) for c, s in zip(cells, sizes, strict=True)]
        lateral = self.convolve(f"{place}.adapter_1", f"{place}.adapter_1.norm", finest)
        lateral = lateral + F.interpolate(
            maps[-1], finest.shape[2:], mode="bilinear", align_corners=False
        )
        fine = self.convolve(f"{place}.layer_1", f"{place}.layer_1.norm", lateral).relu()
        name = f"{place}.mask_features"
        return F.conv2d(fine, self.state[f"{name}.weight"], self.state[f"{name}.bias"]), maps


@torch.no_grad()
def test_words_equal_the_published_description_padding_included(network, state, sentences):
    found, expected = network.words(*sentences), Published(state).bert(*sentences)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "cells"),
    [
        # Sides of no whole windows, some of them odd.
        ((88, 88), [(22, 22), (11, 11), (6, 6), (3, 3)]),
        ((64, 96), [(16, 24), (8, 12), (4, 6), (2, 3)]),
        ((104, 56), [(26, 14), (13, 7), (7, 4), (4, 2)]),
    ],
)
def test_language_fused_stages_equal_the_published_description(
    network, state, sentences, fill_rule, size, cells
):
    images = torch.from_numpy(fill_rule.image(11, (2, 3, *size)))
    words, mask = network.words(*sentences), sentences[1]
    expected = Published(state).encode(images, words, mask)
    found = network.encoder(images, words, mask, image_index=torch.arange(2))
    assert [tuple(each.shape[-2:]) for each in found] == cells
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("region", [1, 3, 5])
def test_a_learned_region_query_is_what_dmmi_unfolds(region, fill_rule):
    query = RegionQuery(16, region, "learned")
    for name, weight in query.named_parameters():
        weight.copy_(torch.from_numpy(fill_rule.value(f"region.{name}", tuple(weight.shape))))
    features = torch.from_numpy(fill_rule.image(12, (2, 16, 5, 9)))
    cells = F.instance_norm(F.conv2d(features, query.cell.weight, query.cell.bias))
    regions = F.unfold(cells, region, padding=region // 2).transpose(1, 2)
    gathered = F.linear(regions, query.gather.weight.flatten(1), query.gather.bias)
    expected = F.instance_norm(gathered.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(query(features), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_pixel_decoder_equals_the_published_description(network, state, fill_rule):
    pyramid = [
        torch.from_numpy(fill_rule.image(20 + level, (2, 16 * 2**level, side, side + 1)))
        for level, side in enumerate((24, 12, 6, 3))
    ]
    finest, maps = Published(state).decode_pixels(pyramid)
    own_finest, own_maps = network.pixel_decoder(pyramid)
    torch.testing.assert_close(own_finest, finest, atol=1e-4, rtol=1e-4)
    for own, other in zip(own_maps, maps, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


def test_dmmi_names_the_weights_of_both_encoders_as_mabp_does(network):
    thirds = ("query", "key", "value")
    for key in network.encoder.backbone.state_dict():
        source = released_source(f"encoder.backbone.{key}")
        name = source.key
        if source.third is not None:
            name = name.replace(".qkv.", f".{thirds[source.third]}.")
        assert released_key(f"encoder.vision.{key}") == name
    for key in network.words.state_dict():
        name = released_source(f"words.{key}").key
        assert released_key(f"encoder.words.{key}") == name.replace("text_encoder", "bert_model")
