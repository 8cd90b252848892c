"""The bilateral prompt: each modality is enriched by the other (TRIS, section 3.2)."""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

PromptAttention = Literal["texts", "pixels"]


class BilateralPrompt(nn.Module):
    """Residuals that pull visual and text features towards each other.

    Projections are convolution + instance norm + ReLU on the visual side and linear + ReLU on the
    text side, with an output projection each, as released; the paper writes plain matrices.

    Source:
        TRIS (arXiv 2308.14575), equations 3-5.
    """

    def __init__(self, dim: int, *, attention: PromptAttention = "texts") -> None:
        """Make the prompt.

        Args:
            dim: Channels of both modalities.
            attention: What the text-to-visual attention is normalised over. ``texts`` (released):
                each pixel picks among the texts; all texts share one visual prompt, and with a
                single text it is a constant. ``pixels`` (the paper's shapes): each text spreads
                over the pixels, so every text has a visual prompt of its own.
        """
        super().__init__()
        self.attention: PromptAttention = attention
        self.visual_query, self.visual_key, self.visual_value = (
            _visual_projection(dim) for _ in range(3)
        )
        self.text_query, self.text_key, self.text_value = (_text_projection(dim) for _ in range(3))
        self.visual_output = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.InstanceNorm2d(dim, affine=True)
        )
        self.text_output = nn.Sequential(nn.Linear(dim, dim))

    def prompt_texts(
        self, visual: Float[Tensor, "images dim h w"], texts: Float[Tensor, "_ texts dim"]
    ) -> Float[Tensor, "images texts dim"]:
        """Return L' of equation 5: what each text finds in each image.

        Args:
            visual: Projected, normalised visual features.
            texts: Projected, normalised text features; one set per image, or (first axis 1) one
                set for all images.
        """
        keys = self.visual_key(visual).flatten(2)
        values = self.visual_value(visual).flatten(2)
        affinity = self.text_query(texts) @ keys / math.sqrt(texts.shape[-1])
        prompt: Tensor = self.text_output(affinity.softmax(dim=-1) @ values.transpose(1, 2))
        return prompt

    def prompt_pixels(
        self,
        visual: Float[Tensor, "images dim h w"],
        texts: Float[Tensor, "_ texts dim"],
        *,
        alone: bool = False,
    ) -> Float[Tensor, "_ _ dim _ _"]:
        """Return V' of equation 5: what the texts say of each pixel.

        Args:
            visual: Projected, normalised visual features.
            texts: As for `prompt_texts`.
            alone: Each text is to be read as if it were the only one. With attention over texts
                that is softmax over one entry = 1: the map is constant, the instance norm leaves
                its bias alone, and no pixel needs to be touched.

        Returns:
            Axes image (1 where all share it), text (1 where all share it), channel, height, width
            (1 where it is constant).
        """
        dim = texts.shape[-1]
        if self.attention == "texts" and alone:
            return self.visual_output[1].get_parameter("bias").view(1, 1, dim, 1, 1)
        queries = self.visual_query(visual).flatten(2).transpose(1, 2)
        affinity = queries @ self.text_key(texts).transpose(1, 2) / math.sqrt(dim)
        values = self.text_value(texts)
        if self.attention == "texts":
            mixed = (affinity.softmax(dim=-1) @ values).transpose(1, 2)
            shared: Tensor = self.visual_output(mixed.unflatten(-1, visual.shape[2:]))
            return shared.unsqueeze(1)
        spread = affinity.softmax(dim=1).transpose(1, 2).unflatten(-1, visual.shape[2:])
        mixed = spread.unsqueeze(2) * values[..., None, None]
        own: Tensor = self.visual_output(mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])
        return own


def _visual_projection(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim, dim, 1), nn.InstanceNorm2d(dim, affine=True), nn.ReLU(inplace=True)
    )


def _text_projection(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True))
