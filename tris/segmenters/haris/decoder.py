"""From multi-modal tokens to a mask: Transformer decoder, query token, two upsampling blocks."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

LARGEST_WAVELENGTH = 10_000.0


class TokenMaskDecoder(nn.Module):
    """A learned token learns of words and pixels what is wanted; the mask is where it fits.

    Args:
        dim: Channels of pixels and words, a multiple of 4.
        query: ``words`` = query token and words ask the pixels, which are upsampled themselves (the
            paper's text); ``pixels`` = query token and pixels ask the words, and the pixels that
            come out are upsampled (equation 5 as printed); ``product`` = no Transformer, the mean
            word takes the token's place (Table II, #2).
        num_layers: Of the Transformer.
        num_heads: Attention heads.
        mlp_dim: Inner width of its perceptrons.
        dropout: While training.

    Source:
        HARIS, section III.C; DETR (arXiv 2005.12872) for layers and sine positions.
    """

    def __init__(
        self,
        dim: int,
        *,
        query: Literal["words", "pixels", "product"] = "words",
        num_layers: int = 3,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.query = query
        self.scale = dim**-0.5
        if query != "product":
            self.token = nn.Parameter(torch.randn(dim))
            layer = nn.TransformerDecoderLayer(dim, num_heads, mlp_dim, dropout, batch_first=True)
            self.transformer = nn.TransformerDecoder(layer, num_layers, nn.LayerNorm(dim))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU()
            )
            for _ in range(2)
        )

    def forward(
        self,
        visual: Float[Tensor, "expr dim h w"],
        words: Float[Tensor, "expr tokens dim"],
        token_mask: Bool[Tensor, "expr tokens"],
    ) -> Float[Tensor, "expr mask_h mask_w"]:
        """Return mask logits at four times the resolution.

        Args:
            visual: Language-aware visual tokens, as a map.
            words: Vision-aware words.
            token_mask: True = real token; padding is asked nothing.
        """
        token, features = self._decode(visual, words, token_mask)
        first, second = self.blocks
        features = second(_double(first(features)))
        # Upsampling and the product over channels commute: one map is upsampled, not dim.
        logits = torch.einsum("edhw,ed->ehw", features, token * self.scale)
        return _double(logits[:, None])[:, 0]

    def _decode(
        self, visual: Tensor, words: Tensor, token_mask: Tensor
    ) -> tuple[Float[Tensor, "expr dim"], Float[Tensor, "expr dim h w"]]:
        """Return the token that the mask is made with, and the map."""
        if self.query == "product":
            weights = token_mask[:, :, None].to(words.dtype)
            return (words * weights).sum(dim=1) / weights.sum(dim=1), visual
        token = self.token.expand(len(words), 1, -1)
        placed = (visual + sine_positions(visual)).flatten(2).transpose(1, 2)
        if self.query == "pixels":
            decoded = self.transformer(
                torch.cat([token, placed], dim=1), words, memory_key_padding_mask=~token_mask
            )
            return decoded[:, 0], decoded[:, 1:].transpose(1, 2).unflatten(2, visual.shape[-2:])
        decoded = self.transformer(
            torch.cat([token, words], dim=1),
            placed,
            tgt_key_padding_mask=functional.pad(~token_mask, (1, 0), value=False),
        )
        return decoded[:, 0], visual


def sine_positions(like: Float[Tensor, "batch dim h w"]) -> Float[Tensor, "dim h w"]:
    """Return fixed position features: half of the channels tell y, half x.

    Positions are fractions of the map, times a full turn, as DETR normalises them.

    Source:
        DETR (arXiv 2005.12872), appendix A.4.
    """
    dim, height, width = like.shape[1:]
    steps = torch.arange(dim // 4, device=like.device, dtype=torch.float32)
    frequencies = LARGEST_WAVELENGTH ** (-steps / max(dim // 4, 1))

    def waves(count: int) -> Tensor:
        centres = torch.arange(count, device=like.device, dtype=torch.float32) + 0.5
        angles = frequencies[:, None] * centres * (2 * math.pi / count)
        return torch.cat([angles.sin(), angles.cos()])

    rows, columns = waves(height), waves(width)
    planes = [rows[:, :, None].expand(-1, -1, width), columns[:, None].expand(-1, height, -1)]
    return torch.cat(planes).to(like.dtype)


def _double(maps: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels _ _"]:
    return functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
