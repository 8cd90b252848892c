"""What stands after each stage of the vision encoder: both modalities refine each other."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tris.layers.selection import select_rows
from tris.segmenters.dmmi.attention import BidirectionalAttention, Pooling


class Fused(NamedTuple):
    """What a stage hands on.

    Attributes:
        features: For the next stage; None where there is none.
        residual: What language added to the features, before the gate.
        words: For the next stage's fusion.
    """

    features: Float[Tensor, "expr channels h w"] | None
    residual: Float[Tensor, "expr channels h w"]
    words: Float[Tensor, "expr tokens dim"]


class StageFusion(nn.Module):
    """Bidirectional attention, a product with the features, a gated sum; a sum for the words.

    Product, gate and both sums come from the released implementation (and LAVT, arXiv 2112.02244,
    section 3.2); the paper's eq. 4 and 6 stop at the attention.

    Args:
        channels: Of the stage's features.
        word_dim: Of the words.
        regions: See `BidirectionalAttention`.
        windows: See `BidirectionalAttention`.
        pooling: See `BidirectionalAttention`.
        has_features: Whether anything reads the gated sum.
    """

    def __init__(
        self,
        channels: int,
        word_dim: int,
        *,
        regions: Sequence[int],
        windows: Sequence[int],
        pooling: Pooling,
        has_features: bool,
    ) -> None:
        super().__init__()
        self.attention = BidirectionalAttention(
            channels, word_dim, regions=regions, windows=windows, pooling=pooling
        )
        self.visual = nn.Conv2d(channels, channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        self.word_update = nn.Linear(word_dim, word_dim) if windows else None
        self.gate = _build_gate(channels) if has_features else None

    def forward(
        self,
        features: Float[Tensor, "n channels h w"],
        words: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        image_index: Int[Tensor, "expr"] | None = None,
    ) -> Fused:
        """Fuse one map per expression.

        Args:
            features: One map per image or per expression.
            words: One sentence per expression.
            token_mask: True = real token.
            image_index: Row of ``features`` that each expression is about; None = its own number.
        """
        said_to_image, said_to_words = self.attention(
            features, words, token_mask, image_index=image_index
        )
        visual = functional.gelu(self.visual(features))
        if image_index is not None:
            features = select_rows(features, image_index)
            visual = select_rows(visual, image_index)
        residual = functional.gelu(self.output(visual * said_to_image))
        if self.word_update is not None:
            words = words + functional.gelu(self.word_update(said_to_words))
        gated = features + self.gate(residual) * residual if self.gate is not None else None
        return Fused(gated, residual, words)


def _build_gate(channels: int) -> nn.Sequential:
    first, second = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(2))
    for layer in (first, second):
        nn.init.trunc_normal_(layer.weight, std=0.02)
    return nn.Sequential(first, nn.ReLU(), second, nn.Tanh())
