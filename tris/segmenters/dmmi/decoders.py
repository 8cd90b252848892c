"""Text-to-image decoder (the mask) and image-to-text decoder (the erased phrase)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

NUM_CLASSES = 2
"""Background, foreground."""


class Decoded(NamedTuple):
    """What the mask decoder returns.

    Attributes:
        class_logits: Background and foreground, at the finest level.
        middle: Features of the middle level before words are asked again: the memory of the phrase
            decoder.
        summary: One vector per expression, of all levels; None where it was not asked for.
    """

    class_logits: Float[Tensor, "expr 2 h w"]
    middle: Float[Tensor, "expr dim middle_h middle_w"]
    summary: Float[Tensor, "expr dim"] | None


class MaskDecoder(nn.Module):
    """From coarse to fine: two convolutions per level, and words asked at the two coarser ones.

    Args:
        channels: Of the four stages, finest first.
        dim: Width, that of the words.
        num_heads: Of the attention.
        feedforward_dim: Inner width of the attention's perceptron.
        dropout: In the attention layers.
        has_summary: Whether there are layers for ``Decoded.summary``.
        hint_channels: Of further maps that join the coarsest level's input (paper: none).

    Source:
        DMMI (arXiv 2308.13853), section 3.2, eq. 7, and 3.3.2; layers as released.
    """

    def __init__(
        self,
        channels: Sequence[int],
        dim: int,
        *,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        dropout: float = 0.1,
        has_summary: bool = True,
        hint_channels: int = 0,
    ) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.coarse = ConvPair(fourth + third + hint_channels, dim)
        self.middle = ConvPair(dim + second, dim)
        self.fine = ConvPair(dim + first, dim)
        self.coarse_words, self.middle_words = (
            make_attention(dim, num_heads, feedforward_dim, dropout) for _ in range(2)
        )
        self.head = nn.Conv2d(dim, NUM_CLASSES, 1)
        self.summaries = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(2 * has_summary))

    def forward(
        self,
        pyramid: Sequence[Float[Tensor, "expr _ _ _"]],
        words: Float[Tensor, "expr tokens dim"],
        *,
        hints: Float[Tensor, "expr hints hint_h hint_w"] | None = None,
        with_summary: bool = False,
    ) -> Decoded:
        """Decode.

        Args:
            pyramid: Four maps, finest first.
            words: Refined words, padding included: it is attended to, as released.
            hints: Further maps, of the size of the third level.
            with_summary: Whether to compute ``Decoded.summary``.
        """
        first, second, third, fourth = pyramid
        deepest = third if hints is None else torch.cat([third, hints], dim=1)
        coarse = self.coarse(join(fourth, deepest))
        middle = self.middle(join(ask_words(self.coarse_words, coarse, words), second))
        fine = self.fine(join(ask_words(self.middle_words, middle, words), first))
        summary = self._summarise(coarse, middle, fine) if with_summary else None
        return Decoded(self.head(fine), middle, summary)

    def _summarise(self, coarse: Tensor, *finer: Tensor) -> Float[Tensor, "expr dim"]:
        summary = coarse.mean(dim=(2, 3))
        for linear, features in zip(self.summaries, finer, strict=True):
            summary = linear(torch.cat([summary, features.mean(dim=(2, 3))], dim=1))
        return summary


class PhraseDecoder(nn.Module):
    """Context clue recovery: the words of a sentence without its phrase ask the image for it.

    The paper's text says that vision asks the words; as released, words ask and vision answers.

    Args:
        dim: Width of words and features.
        num_heads: Of the attention.
        feedforward_dim: Inner width of the attention's perceptron.
        dropout: In the attention layer.

    Source:
        DMMI (arXiv 2308.13853), section 3.3.1.
    """

    def __init__(
        self, dim: int, *, num_heads: int = 8, feedforward_dim: int = 2048, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.memory = ConvBlock(dim, dim)
        self.attention = make_attention(dim, num_heads, feedforward_dim, dropout)

    def forward(
        self,
        erased_words: Float[Tensor, "expr tokens dim"],
        features: Float[Tensor, "expr dim h w"],
    ) -> Float[Tensor, "expr tokens dim"]:
        """Return the words as they should be with the phrase."""
        memory = self.memory(features).flatten(2).transpose(1, 2)
        recovered: Tensor = self.attention(erased_words, memory)
        return recovered


class ConvBlock(nn.Sequential):
    """3 x 3 convolution without bias, batch norm, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
        )


class ConvPair(nn.Sequential):
    """Two `ConvBlock`."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(ConvBlock(before, after), ConvBlock(after, after))


def join(
    coarse: Float[Tensor, "expr coarse_channels coarse_h coarse_w"],
    finer: Float[Tensor, "expr finer_channels h w"],
) -> Float[Tensor, "expr channels h w"]:
    """Bring a map to the size of a finer one, corner on corner, and put them together."""
    size = finer.shape[-2:]
    if coarse.shape[-2:] != size:
        coarse = functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
    return torch.cat([coarse, finer], dim=1)


def make_attention(
    dim: int, num_heads: int, feedforward_dim: int, dropout: float
) -> nn.TransformerDecoderLayer:
    """Return self-attention, cross-attention and perceptron, each normalised behind its sum."""
    return nn.TransformerDecoderLayer(
        dim, num_heads, feedforward_dim, dropout=dropout, batch_first=True
    )


def ask_words(
    layer: nn.TransformerDecoderLayer,
    features: Float[Tensor, "expr dim h w"],
    words: Float[Tensor, "expr tokens dim"],
) -> Float[Tensor, "expr dim h w"]:
    """Let every cell look at every other cell and at the words; there are no positions."""
    cells = layer(features.flatten(2).transpose(1, 2), words)
    asked: Tensor = cells.transpose(1, 2).unflatten(2, features.shape[-2:])
    return asked
