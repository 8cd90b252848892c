"""How LAVT lets words into a vision encoder: pixel-word attention, and a gate on its way back."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tris.layers.selection import select_rows


class LanguageFusion(nn.Module):
    """Pixels gather words, and keep of themselves what the words agree with.

    Unlike `PixelWordAttention` of the TRIS network: padding is left out, normalisation has no
    learned scale, GELU instead of ReLU, and the product is the output, with no residual.

    What depends on the image alone is computed once per image and gathered afterwards.

    Args:
        visual_channels: Channels of the image features.
        word_channels: Channels of the word features.

    Source:
        LAVT (arXiv 2112.02244), section 3.2, pixel-word attention module.
    """

    def __init__(self, visual_channels: int, word_channels: int) -> None:
        super().__init__()
        self.scale = visual_channels**-0.5
        self.visual = nn.Conv2d(visual_channels, visual_channels, 1)
        self.query = nn.Conv2d(visual_channels, visual_channels, 1)
        self.query_norm = nn.InstanceNorm2d(visual_channels)
        self.key = nn.Linear(word_channels, visual_channels)
        self.value = nn.Linear(word_channels, visual_channels)
        self.gathered = nn.Conv2d(visual_channels, visual_channels, 1)
        self.gathered_norm = nn.InstanceNorm2d(visual_channels)
        self.output = nn.Conv2d(visual_channels, visual_channels, 1)
        self.activation = nn.GELU()

    def forward(
        self,
        visual_features: Float[Tensor, "maps channels h w"],
        word_features: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        map_index: Int[Tensor, "expr"] | None = None,
    ) -> Float[Tensor, "expr channels h w"]:
        """Return what image and sentence have in common, one map per expression.

        Args:
            visual_features: One map per image, or one per expression.
            word_features: One sentence per expression, padding included.
            token_mask: True = real token; each sentence has at least one.
            map_index: Row of ``visual_features`` of each expression; None = expression i, map i.
        """
        size = visual_features.shape[-2:]
        visual = self.activation(self.visual(visual_features))
        queries = self.query_norm(self.query(visual_features))
        if map_index is not None:
            visual, queries = select_rows(visual, map_index), select_rows(queries, map_index)
        scores = queries.flatten(2).transpose(1, 2) @ self.key(word_features).transpose(1, 2)
        scores = (scores * self.scale).masked_fill(~token_mask[:, None], float("-inf"))
        words = (scores.softmax(dim=2) @ self.value(word_features)).transpose(1, 2)
        words = self.gathered_norm(self.gathered(words.unflatten(2, size)))
        fused: Tensor = self.activation(self.output(visual * words))
        return fused


class LanguageGate(nn.Module):
    """How much of the fused features flows back into the encoder, per pixel and channel.

    Args:
        channels: Of the features.

    Source:
        LAVT (arXiv 2112.02244), section 3.3, language pathway. Weights start small, not at zero:
        two layers of zeros would never learn.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1, bias=False)
        self.second = nn.Conv2d(channels, channels, 1, bias=False)
        for layer in (self.first, self.second):
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(
        self, fused_features: Float[Tensor, "expr channels h w"]
    ) -> Float[Tensor, "expr channels h w"]:
        """Return what is to be added to the encoder's features."""
        return torch.tanh(self.second(self.first(fused_features).relu())) * fused_features
