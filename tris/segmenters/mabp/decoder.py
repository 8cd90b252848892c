"""The decoder of MABP: three levels of mixed-modal layers, a regional head behind each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from tris.errors import InputError
from tris.segmenters.mabp.mixed_modal import MixedModalLayer
from tris.segmenters.mabp.query_generator import QueryGenerator, QueryPyramid
from tris.segmenters.mabp.regional_head import RegionalHead
from tris.segmenters.mabp.regions import RegionGrid, quadruple

NUM_LEVELS = 3
NUM_HEADS = NUM_LEVELS + 1
"""Regional heads: one per level, and one on the finest map."""


@dataclass(frozen=True)
class DecoderConfig:
    """The defaults are the released network; the switches are the paper's ablations.

    Every row of Table V adds a part to the row before. The row that is named is what False gives,
    together with the switches of all later rows.

    Attributes:
        dim: Channels of queries, maps and masks.
        num_attention_heads: Of every attention.
        feedforward_dim: Width inside the feed-forward blocks.
        layers_per_level: Mixed-modal layers before the regions are quartered.
        num_regions: At the coarsest level, a square number; four times as many at each next.
        has_tight_windows: Windows as small as cover the map, instead of the published rule; no
            difference where the side of the region grid divides no side of the map (480 pixels).
        has_regional_supervision: False = the naive mask head (Table V, row 1).
        has_words_in_cross_attention: Of the mixed-modal decoder; False in both attentions = a
            decoder without words, in the place of ReLA's (Table V, row 2).
        has_words_in_self_attention: Likewise (Table V, row 2).
        has_query_generator: Initial queries from the sentence; False = learned ones (Table V, row
            3).
        has_masked_attention: Whether a query looks only at the foreground and its own window.
        num_mask_heads: Heads that the mask loss sees, counted from the last (Table VI): 1 to 4.
        num_no_target_heads: Heads with a no-target branch, counted from the last (Table VI): 0 to
            4.
    """

    dim: int = 256
    num_attention_heads: int = 8
    feedforward_dim: int = 2048
    layers_per_level: int = 3
    num_regions: int = 16
    has_tight_windows: bool = False
    has_regional_supervision: bool = True
    has_words_in_cross_attention: bool = True
    has_words_in_self_attention: bool = True
    has_query_generator: bool = True
    has_masked_attention: bool = True
    num_mask_heads: int = NUM_HEADS
    num_no_target_heads: int = NUM_HEADS

    def __post_init__(self) -> None:
        """Make sure that the network can be built.

        Raises:
            InputError: If a number is out of its range.
        """
        if self.layers_per_level < 1:
            raise InputError(f"layers_per_level is {self.layers_per_level}; use 1 or more.")
        if self.num_attention_heads < 1 or self.dim % self.num_attention_heads:
            raise InputError(
                f"{self.dim} channels cannot be split among {self.num_attention_heads} attention "
                "heads: num_attention_heads must divide dim."
            )
        if self.num_regions < 1 or math.isqrt(self.num_regions) ** 2 != self.num_regions:
            raise InputError(
                f"num_regions is {self.num_regions}, but regions form a square grid: use 1, 4, 9, "
                "16, ..."
            )
        if not 1 <= self.num_mask_heads <= NUM_HEADS:
            raise InputError(f"num_mask_heads is {self.num_mask_heads}; use 1 to {NUM_HEADS}.")
        if not 0 <= self.num_no_target_heads <= NUM_HEADS:
            raise InputError(
                f"num_no_target_heads is {self.num_no_target_heads}; use 0 to {NUM_HEADS}."
            )


class DecoderOutput(NamedTuple):
    """What the regional heads say, coarsest first, the finest map last.

    Attributes:
        mask_logits: One ``(expr, h, w)`` per head, > 0 means foreground.
        no_target_logits: "There is a target" and "there is none", of the heads that have the
            branch, coarsest first.
    """

    mask_logits: list[Float[Tensor, "expr _ _"]]
    no_target_logits: list[Float[Tensor, "expr 2"]]


class Level(NamedTuple):
    """A map and its regions."""

    cells: Tensor
    positions: Tensor
    windows: Tensor
    grid: RegionGrid


class RegionDecoder(nn.Module):
    """Queries bound to regions read maps from coarse to fine, and are quartered between them.

    Args:
        config: Sizes and ablations.
        word_dim: Channels of the word features.
        num_tokens: Words per sentence, padding included.

    Raises:
        InputError: If the config is out of range.

    Source:
        MABP (arXiv 2405.15169), section III; details as in the released implementation.
    """

    def __init__(self, config: DecoderConfig, *, word_dim: int, num_tokens: int) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.generator = QueryGenerator(
            dim, word_dim, config.num_regions, has_words=config.has_query_generator
        )
        self.query_positions = nn.Embedding(config.num_regions, dim)
        self.word_positions = nn.Embedding(num_tokens, dim)
        self.level_embedding = nn.Embedding(NUM_LEVELS, dim)
        self.sines = Mask2FormerSinePositionEmbedding(dim // 2, normalize=True)
        self.layers = nn.ModuleList(
            MixedModalLayer(
                dim, config.num_attention_heads, config.feedforward_dim, num_tokens,
                has_words_in_cross_attention=config.has_words_in_cross_attention,
                has_words_in_self_attention=config.has_words_in_self_attention,
            )
            for _ in range(NUM_LEVELS * config.layers_per_level)
        )  # fmt: skip
        self.pyramid = QueryPyramid(dim, NUM_LEVELS)
        self.heads = nn.ModuleList(
            RegionalHead(
                dim, config.num_regions * 4 ** min(number, NUM_LEVELS - 1), num_tokens,
                is_regional=config.has_regional_supervision,
                has_no_target=number >= NUM_HEADS - config.num_no_target_heads,
            )
            for number in range(NUM_HEADS)
        )  # fmt: skip
        self._freeze_unused()

    def forward(
        self,
        maps: Sequence[Float[Tensor, "expr dim _ _"]],
        mask_features: Float[Tensor, "expr dim h w"],
        word_features: Float[Tensor, "expr tokens word_dim"],
        token_mask: Bool[Tensor, "expr tokens"],
    ) -> DecoderOutput:
        """Return the masks and no-target logits of every head.

        Args:
            maps: The three levels of the pixel decoder, coarsest first.
            mask_features: Its finest map.
            word_features: Of the text encoder.
            token_mask: True = real token.
        """
        queries, words = self.generator(word_features, token_mask)
        query_positions = self.query_positions.weight[None]
        output, of_levels = DecoderOutput([], []), []
        visible: Tensor | None = None
        for number, features in enumerate(maps):
            if number > 0:
                queries, query_positions = quadruple(queries), quadruple(query_positions)
            level = self._make_level(features, number=number, num_regions=queries.shape[1])
            head = self._head(number)
            if number > 0:
                visible = self._look(head, queries, level)
            first = number * self.config.layers_per_level
            for index in range(first, first + self.config.layers_per_level):
                if index > first:
                    visible = self._look(head, queries, level)
                queries, words = self.layers[index](
                    queries, words, level.cells,
                    query_positions=query_positions,
                    word_positions=self.word_positions.weight[None],
                    cell_positions=level.positions,
                    visible=visible,
                )  # fmt: skip
            _judge(head, queries, words, level.windows, level.grid, output=output)
            of_levels.append(queries)
        finest = self.pyramid(of_levels)
        grid = self._grid(mask_features, finest.shape[1])
        _judge(
            self._head(NUM_LEVELS), finest, words, grid.partition(mask_features), grid,
            output=output,
        )  # fmt: skip
        return output

    def _make_level(self, features: Tensor, *, number: int, num_regions: int) -> Level:
        features = features + self.level_embedding.weight[number][:, None, None]
        grid = self._grid(features, num_regions)
        sines = self.sines(torch.Size((1, *features.shape[1:])), features.device, torch.float32)
        return Level(
            cells=features.flatten(2).transpose(1, 2),
            positions=sines.flatten(2).transpose(1, 2),
            windows=grid.partition(features),
            grid=grid,
        )

    def _look(self, head: RegionalHead, queries: Tensor, level: Level) -> Tensor | None:
        """Say where each query may look next; None = everywhere."""
        if not self.config.has_masked_attention:
            return None
        with torch.no_grad():
            mask = head.draw(head.embed(queries), level.windows, level.grid)
            membership = level.grid.membership(mask.device) if head.is_regional else None
            return visible_cells(mask, membership, num_regions=queries.shape[1])

    def _freeze_unused(self) -> None:
        """Let nothing wait for a gradient that an ablation has cut off."""
        config = self.config
        for number in range(NUM_HEADS - config.num_mask_heads):
            head = self._head(number)
            if head.no_target is None:
                head.requires_grad_(False)
        if not (config.has_words_in_cross_attention or config.has_words_in_self_attention):
            self.word_positions.requires_grad_(False)
            if not config.num_no_target_heads:
                for layer in self.layers:
                    layer.word_mixing.requires_grad_(False)
                self.generator.value.requires_grad_(config.has_query_generator)

    def _grid(self, features: Tensor, num_regions: int) -> RegionGrid:
        return RegionGrid.over(
            features.shape[-2:], num_regions, is_tight=self.config.has_tight_windows
        )

    def _head(self, number: int) -> RegionalHead:
        head = self.heads[number]
        assert isinstance(head, RegionalHead)
        return head


def visible_cells(
    mask_logits: Float[Tensor, "expr h w"],
    membership: Bool[Tensor, "regions cells"] | None,
    *,
    num_regions: int,
) -> Bool[Tensor, "expr regions cells"]:
    """Say which cells each query may look at: the foreground, and its own window.

    A query that could see nothing sees everything.

    Args:
        mask_logits: One mask for all queries.
        membership: Cells of each region; None = there are no regions.
        num_regions: Queries.
    """
    foreground = (mask_logits.sigmoid() >= 0.5).flatten(1)[:, None]
    visible = foreground.expand(-1, num_regions, -1)
    if membership is not None:
        visible = visible | membership
    return visible | ~visible.any(dim=2, keepdim=True)


def _judge(
    head: RegionalHead,
    queries: Tensor,
    words: Tensor,
    windows: Tensor,
    grid: RegionGrid,
    *,
    output: DecoderOutput,
) -> None:
    """Append what a head says to the output."""
    embeddings = head.embed(queries)
    output.mask_logits.append(head.draw(embeddings, windows, grid))
    if head.no_target is not None:
        output.no_target_logits.append(head.no_target(embeddings, windows, words))
