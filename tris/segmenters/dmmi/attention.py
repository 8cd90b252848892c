"""Multi-scale bidirectional attention: pixels ask words, words ask pixels, over several regions.

Each direction attends once per region size (window length) and mixes the attention maps with
learned weights. Vision and words may have different numbers of rows: what depends on the image
alone is computed once per image and gathered for its expressions afterwards.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tris.layers.selection import select_rows

Pooling = Literal["learned", "sum"]

_PADDING_SCORE = -1e4


class RegionQuery(nn.Module):
    """What a square region around each cell asks.

    Args:
        channels: Of the visual features and of the query.
        region: Side of the region, cells; odd.
        pooling: ``learned`` = a reduced projection of each cell, then a convolution over the region
            (released); ``sum`` = the sum over the region (paper, eq. 2).
    """

    def __init__(self, channels: int, region: int, pooling: Pooling) -> None:
        super().__init__()
        self.region, self.pooling = region, pooling
        inner = channels // 2 ** ((region - 1) // 2) if pooling == "learned" else channels
        self.cell = nn.Conv2d(channels, inner, 1)
        if pooling == "learned":
            self.gather = nn.Conv2d(inner, channels, region, padding=region // 2)

    def forward(
        self, features: Float[Tensor, "n channels h w"]
    ) -> Float[Tensor, "n cells channels"]:
        """Return one query per cell; outside the map there is nothing (zeros)."""
        queries = self.cell(features)
        if self.pooling == "learned":
            queries = functional.instance_norm(queries)
            queries = functional.instance_norm(self.gather(queries))
        else:
            mean = functional.avg_pool2d(queries, self.region, stride=1, padding=self.region // 2)
            queries = mean * self.region**2
        return queries.flatten(2).transpose(1, 2)


class WindowQuery(nn.Module):
    """What a run of words around each word asks.

    Args:
        word_dim: Of the words and of the query.
        channels: Of the visual features; sets the width of the reduced projection.
        window: Words per run.
        pooling: ``learned`` = a reduced projection of each word, then a linear layer over the run,
            which is centred (a run of two looks back) and repeats the sentence's ends (released);
            ``sum`` = the sum over the run that starts at the word, real words only (paper, eq. 5).
    """

    def __init__(self, word_dim: int, channels: int, window: int, pooling: Pooling) -> None:
        super().__init__()
        self.window, self.pooling = window, pooling
        inner = channels // window if pooling == "learned" else word_dim
        self.word = nn.Linear(word_dim, inner)
        if pooling == "learned":
            self.gather = nn.Linear(inner * window, word_dim)

    def forward(
        self, words: Float[Tensor, "expr tokens dim"], token_mask: Bool[Tensor, "expr tokens"]
    ) -> Float[Tensor, "expr tokens dim"]:
        """Return one query per word; that of padding is zero."""
        queries = self.word(words)
        if self.pooling == "learned":
            queries = self.gather(self._runs(queries).flatten(2))
        else:
            ahead = (0, 0, 0, self.window - 1)
            real = functional.pad(queries * token_mask[..., None], ahead)
            queries = real.unfold(1, self.window, 1).sum(dim=-1)
        masked: Tensor = queries * token_mask[..., None]
        return masked

    def _runs(
        self, queries: Float[Tensor, "expr tokens inner"]
    ) -> Float[Tensor, "expr tokens inner window"]:
        last = queries.shape[1] - 1
        places = torch.arange(last + 1, device=queries.device) - self.window // 2
        return torch.stack(
            [queries[:, (places + offset).clamp(0, last)] for offset in range(self.window)], dim=-1
        )


class BidirectionalAttention(nn.Module):
    """Text-to-image and image-to-text attention of one encoder stage.

    Args:
        channels: Of the visual features.
        word_dim: Of the words.
        regions: Sides of the regions that pixels ask with (paper: 1, 3, 5).
        windows: Lengths of the runs that words ask with (paper: 1, 2, 3); none = words are not
            refined (ablation "Bi-D" of the paper).
        pooling: See `RegionQuery` and `WindowQuery`.

    Source:
        DMMI (arXiv 2308.13853), section 3.1.2, eq. 2 to 6; layers as in the released
        implementation.
    """

    def __init__(
        self,
        channels: int,
        word_dim: int,
        *,
        regions: Sequence[int] = (1, 3, 5),
        windows: Sequence[int] = (1, 2, 3),
        pooling: Pooling = "learned",
    ) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.region_queries = nn.ModuleList(RegionQuery(channels, r, pooling) for r in regions)
        self.region_keys = nn.ModuleList(nn.Linear(word_dim, channels) for _ in regions)
        self.region_weights = nn.Parameter(torch.ones(len(regions)))
        self.word_value = nn.Linear(word_dim, channels)
        self.visual_output = nn.Conv2d(channels, channels, 1)
        self.is_bidirectional = bool(windows)
        if self.is_bidirectional:
            self.window_queries = nn.ModuleList(
                WindowQuery(word_dim, channels, w, pooling) for w in windows
            )
            self.window_keys = nn.ModuleList(nn.Conv2d(channels, word_dim, 1) for _ in windows)
            self.window_weights = nn.Parameter(torch.ones(len(windows)))
            self.visual_value = nn.Conv2d(channels, word_dim, 1)
            self.word_output = nn.Linear(word_dim, word_dim)

    def forward(
        self,
        features: Float[Tensor, "n channels h w"],
        words: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        image_index: Int[Tensor, "expr"] | None = None,
    ) -> tuple[
        Float[Tensor, "expr channels h w"],
        Float[Tensor, "expr tokens dim"] | None,
    ]:
        """Return what the words say of each cell, and what the image says of each word.

        Args:
            features: One map per image or per expression.
            words: One sentence per expression.
            token_mask: True = real token. Padding says nothing to the image; what the image says to
                padding is a constant.
            image_index: Row of ``features`` that each expression is about; None = its own number.
        """
        visual = self._to_image(features, words, token_mask, image_index)
        if not self.is_bidirectional:
            return visual, None
        return visual, self._to_text(features, words, token_mask, image_index)

    def region_attention(
        self,
        features: Float[Tensor, "n channels h w"],
        words: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        image_index: Int[Tensor, "expr"] | None = None,
    ) -> list[Float[Tensor, "expr cells tokens"]]:
        """Return, per region size, where each cell looks in the sentence (rows add up to 1)."""
        is_real = token_mask[..., None]
        maps = []
        for query, key in zip(self.region_queries, self.region_keys, strict=True):
            keys = (key(words) * is_real).transpose(1, 2)
            scores = _gather(query(features), image_index) @ keys * self.scale
            scores = scores.float().masked_fill(~token_mask[:, None], _PADDING_SCORE)
            maps.append(scores.softmax(dim=-1))
        return maps

    def window_attention(
        self,
        features: Float[Tensor, "n channels h w"],
        words: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        image_index: Int[Tensor, "expr"] | None = None,
    ) -> list[Float[Tensor, "expr tokens cells"]]:
        """Return, per window length, where each word looks in the image (rows add up to 1)."""
        maps = []
        for query, key in zip(self.window_queries, self.window_keys, strict=True):
            keys = functional.instance_norm(key(features)).flatten(2)
            scores = query(words, token_mask) @ _gather(keys, image_index) * self.scale
            maps.append(scores.float().softmax(dim=-1))
        return maps

    def _to_image(
        self, features: Tensor, words: Tensor, token_mask: Tensor, image_index: Tensor | None
    ) -> Float[Tensor, "expr channels h w"]:
        maps = self.region_attention(features, words, token_mask, image_index=image_index)
        attention = _mix(maps, self.region_weights)
        values = self.word_value(words) * token_mask[..., None]
        gathered = (attention.to(values.dtype) @ values).transpose(1, 2)
        output = self.visual_output(gathered.unflatten(2, features.shape[-2:]))
        return functional.instance_norm(output)

    def _to_text(
        self, features: Tensor, words: Tensor, token_mask: Tensor, image_index: Tensor | None
    ) -> Float[Tensor, "expr tokens dim"]:
        maps = self.window_attention(features, words, token_mask, image_index=image_index)
        attention = _mix(maps, self.window_weights)
        values = functional.instance_norm(self.visual_value(features)).flatten(2).transpose(1, 2)
        gathered = attention.to(values.dtype) @ _gather(values, image_index)
        output: Tensor = self.word_output(gathered)
        return output


def _mix(maps: Sequence[Tensor], weights: Float[Tensor, "maps"]) -> Tensor:
    shares = weights.softmax(dim=0)
    mixed: Tensor = shares[0] * maps[0]
    for share, each in zip(shares[1:], maps[1:], strict=True):
        mixed = mixed + share * each
    return mixed


def _gather(rows: Tensor, image_index: Tensor | None) -> Tensor:
    return rows if image_index is None else select_rows(rows, image_index)
