"""Where the region queries come from, and how those of three grids become one."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from tris.segmenters.mabp.regions import as_grid


class QueryGenerator(nn.Module):
    """Region-text queries: every region gathers the words that concern it.

    As released, the affinities are not normalised by a softmax, padding adds nothing because its
    values are zero, and the regions' embeddings enter through the affinities alone.

    Args:
        dim: Channels of the queries.
        word_dim: Channels of the word features.
        num_regions: Of the coarsest level.
        has_words: False = the learned embeddings alone are the queries (Table V, row 3); the words
            are projected all the same, because the decoder reads them.

    Source:
        MABP (arXiv 2405.15169), section III-B, Fig. 4.
    """

    def __init__(
        self, dim: int, word_dim: int, num_regions: int, *, has_words: bool = True
    ) -> None:
        super().__init__()
        self.has_words = has_words
        self.scale = dim**-0.5
        self.regions = nn.Embedding(num_regions, dim)
        self.value = nn.Linear(word_dim, dim)
        if has_words:
            self.query = nn.Linear(dim, dim)
            self.query_norm = nn.LayerNorm(dim)
            self.key = nn.Linear(word_dim, dim)
            self.output = nn.Linear(dim, dim)

    def forward(
        self,
        word_features: Float[Tensor, "expr tokens word_dim"],
        token_mask: Bool[Tensor, "expr tokens"],
    ) -> tuple[Float[Tensor, "expr regions dim"], Float[Tensor, "expr tokens dim"]]:
        """Return the initial queries, and the words in the decoder's width (zero at padding)."""
        is_word = token_mask[..., None].to(word_features.dtype)
        values = self.value(word_features) * is_word
        if not self.has_words:
            return self.regions.weight.expand(len(values), -1, -1), values
        keys = self.key(word_features) * is_word
        queries = self.query_norm(self.query(self.regions.weight))
        affinity = queries @ keys.transpose(1, 2) * self.scale
        return self.output(affinity @ values), values


class QueryPyramid(nn.Module):
    """A feature pyramid network over the query grids of the three levels (released code only).

    Args:
        dim: Channels.
        num_levels: Grids, each twice as fine as the one before.
    """

    def __init__(self, dim: int, num_levels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(dim, dim, 1, bias=False) for _ in range(num_levels))
        self.outputs = nn.ModuleList(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False) for _ in range(num_levels)
        )
        for convolution in [*self.laterals, *self.outputs]:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(
        self, queries: Sequence[Float[Tensor, "expr _ dim"]]
    ) -> Float[Tensor, "expr regions dim"]:
        """Return queries on the finest grid.

        Args:
            queries: Of every level, coarsest first. The coarsest grid is added to its own lateral.
        """
        grids = [as_grid(each) for each in queries]
        merged = grids[0]
        for grid, lateral, output in zip(grids, self.laterals, self.outputs, strict=True):
            finer = functional.interpolate(
                merged, size=grid.shape[-2:], mode="bilinear", align_corners=False
            )
            merged = output(lateral(grid) + finer).relu()
        return merged.flatten(2).transpose(1, 2)
