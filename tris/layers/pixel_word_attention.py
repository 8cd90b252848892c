"""Attention from pixels to words, the fusion block of LAVT and of the TRIS segmentation network."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tris.layers.selection import select_rows


class PixelWordAttention(nn.Module):
    """Let every pixel of an image gather the words of an expression that concern it.

    Images and expressions are separate axes. What depends on the image alone is computed once per
    image and gathered afterwards; the projection after the attention is applied to the words
    instead of the pixels, which gives the same sums because attention weights add up to one.

    Args:
        visual_channels: Channels of the image features.
        word_channels: Channels of the word features.
        mask_padding: Whether padding tokens are left out of the attention. The released networks
            attend to them (False).

    Source:
        LAVT (arXiv 2112.02244), pixel-word attention module; TRIS (arXiv 2308.14575), section 3.4
        ("non-local module").
    """

    def __init__(
        self, visual_channels: int, word_channels: int, *, mask_padding: bool = False
    ) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.scale = visual_channels**-0.5
        self.query = nn.Conv2d(visual_channels, visual_channels, 1)
        self.query_norm = nn.InstanceNorm2d(visual_channels, affine=True)
        self.key = nn.Linear(word_channels, visual_channels)
        self.value = nn.Linear(word_channels, visual_channels)
        self.gate = nn.Linear(visual_channels, visual_channels)
        self.gate_norm = nn.InstanceNorm2d(visual_channels, affine=True)
        self.visual = nn.Conv2d(visual_channels, visual_channels, 1)
        self.output = nn.Conv2d(visual_channels, visual_channels, 1)

    def forward(
        self,
        visual_features: Float[Tensor, "images channels h w"],
        word_features: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
        *,
        image_index: Int[Tensor, "expr"],
    ) -> Float[Tensor, "expr channels h w"]:
        """Return what the words say about every pixel; the caller adds it to the features.

        Args:
            visual_features: One map per image.
            word_features: One sentence per expression, padding included.
            token_mask: True = real token; read only where padding is masked.
            image_index: Row of ``visual_features`` that the expression is about.

        Returns:
            One map per expression, >= 0.
        """
        height, width = visual_features.shape[-2:]
        queries = self.query_norm(self.query(visual_features)).flatten(2).transpose(1, 2)
        keys = self.key(word_features).transpose(1, 2)
        scores = select_rows(queries, image_index) @ keys * self.scale
        if self.mask_padding:
            scores = scores.masked_fill(~token_mask[:, None], float("-inf"))
        gated_words = self.gate(self.value(word_features))
        gathered = (scores.softmax(dim=2) @ gated_words).transpose(1, 2)
        gate = self.gate_norm(gathered.unflatten(2, (height, width)))
        visual = self.visual(visual_features).relu()
        attended: Tensor = self.output(select_rows(visual, image_index) * gate)
        return attended.relu()
