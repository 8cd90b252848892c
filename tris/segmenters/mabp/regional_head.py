"""The regional supervision head: every query draws the mask of its own window."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tris.layers.perceptron import Perceptron
from tris.segmenters.mabp.regions import RegionGrid


class RegionalHead(nn.Module):
    """Mask embeddings, the mask they draw, and (in the no-target branch) what is missing.

    Args:
        dim: Channels of queries, cells and words.
        num_regions: Queries at this level.
        num_tokens: Words per sentence, padding included: the branch weighs them by place.
        is_regional: False = a naive head: the masks of all queries over the whole map, averaged
            (Table V, row 1).
        has_no_target: Whether there is a no-target branch.

    Source:
        MABP (arXiv 2405.15169), section III-D.
    """

    def __init__(
        self,
        dim: int,
        num_regions: int,
        num_tokens: int,
        *,
        is_regional: bool = True,
        has_no_target: bool = True,
    ) -> None:
        super().__init__()
        self.is_regional = is_regional
        self.norm = nn.LayerNorm(dim)
        self.mask_embedding = Perceptron((dim, dim, dim, dim))
        self.no_target = NoTargetBranch(dim, num_regions, num_tokens) if has_no_target else None

    def embed(
        self, queries: Float[Tensor, "expr regions dim"]
    ) -> Float[Tensor, "expr regions dim"]:
        """Return one mask embedding per region."""
        embeddings: Tensor = self.mask_embedding(self.norm(queries))
        return embeddings

    def draw(
        self,
        embeddings: Float[Tensor, "expr regions dim"],
        windows: Float[Tensor, "expr regions cells dim"],
        grid: RegionGrid,
    ) -> Float[Tensor, "expr h w"]:
        """Return one mask for the whole map, > 0 means foreground."""
        if not self.is_regional:
            embeddings = embeddings.mean(dim=1, keepdim=True).expand_as(embeddings)
        return grid.merge((windows @ embeddings[..., None])[..., 0])


class NoTargetBranch(nn.Module):
    """Compare every query with its window and with the sentence, and judge all of it together.

    Source:
        MABP (arXiv 2405.15169), section III-D.2.
    """

    def __init__(self, dim: int, num_regions: int, num_tokens: int) -> None:
        super().__init__()
        self.region = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.sentence = Perceptron((num_tokens, num_tokens, 1))
        self.judge = Perceptron((2 * num_regions, 2 * num_regions, 2))

    def forward(
        self,
        embeddings: Float[Tensor, "expr regions dim"],
        windows: Float[Tensor, "expr regions cells dim"],
        words: Float[Tensor, "expr tokens dim"],
    ) -> Float[Tensor, "expr 2"]:
        """Return logits of "there is a target" and "there is none".

        Args:
            embeddings: Of the regional head.
            windows: Cells of every window, zero where it is padding; padding counts in the mean.
            words: As the decoder left them.
        """
        queries = self.query(embeddings)
        centroids = self.region(windows.mean(dim=2))
        near_image = (queries * centroids).sum(dim=2)
        sentence = self.sentence(words.transpose(1, 2))
        near_text = (queries @ sentence)[..., 0]
        logits: Tensor = self.judge(torch.cat([near_text, near_image], dim=1))
        return logits
