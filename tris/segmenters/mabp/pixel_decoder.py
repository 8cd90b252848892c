"""Mask2Former's deformable pixel decoder, out of transformers: pure PyTorch."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
)

from tris.errors import InputError

GROUPS = 32
"""Of the group norms inside: the width must be a multiple of it."""

_NEARLY_ZERO = 1e-3


@dataclass(frozen=True)
class PixelDecoderConfig:
    """The defaults are those of Mask2Former and MABP.

    Attributes:
        num_layers: Deformable attention layers over the three coarser levels together.
        num_attention_heads: Of each.
        feedforward_dim: Width inside their perceptrons.
    """

    num_layers: int = 6
    num_attention_heads: int = 8
    feedforward_dim: int = 1024


class PixelDecoder(nn.Module):
    """Deformable attention over the three coarser levels, then one step to the finest level.

    Computed in float32 under autocast, too: sampling places are coordinates.

    Args:
        config: Sizes.
        channels: Of the four input levels, finest first.
        dim: Channels of all outputs.

    Raises:
        InputError: If ``dim`` is no multiple of 32 or of the number of heads.

    Source:
        Mask2Former (arXiv 2112.01527), section 3.2.1; Deformable DETR (arXiv 2010.04159).
    """

    def __init__(
        self, config: PixelDecoderConfig, channels: tuple[int, int, int, int], dim: int
    ) -> None:
        super().__init__()
        if dim % GROUPS or dim % config.num_attention_heads:
            raise InputError(
                f"The pixel decoder's width is {dim}, but it must be a multiple of {GROUPS} (group "
                f"norm) and of its {config.num_attention_heads} heads."
            )
        description = Mask2FormerConfig(
            feature_size=dim,
            mask_feature_size=dim,
            encoder_layers=config.num_layers,
            encoder_feedforward_dim=config.feedforward_dim,
            num_attention_heads=config.num_attention_heads,
            dropout=0.0,
        )
        self.decoder = Mask2FormerPixelDecoder(description, feature_channels=list(channels))
        self._initialise()

    def forward(
        self, pyramid: list[Float[Tensor, "batch _ _ _"]]
    ) -> tuple[Float[Tensor, "batch dim h w"], list[Float[Tensor, "batch dim _ _"]]]:
        """Return the finest map, and the three levels of the transformer, coarsest first.

        Args:
            pyramid: Four maps, finest first; the second finest decides what is upsampled.
        """
        with torch.autocast(pyramid[0].device.type, enabled=False):
            output = self.decoder([features.float() for features in pyramid])
        return output.mask_features, list(output.multi_scale_features)

    def _initialise(self) -> None:
        """Set what transformers leaves to the model that this part belongs to there."""
        nn.init.normal_(self.decoder.level_embed)
        for module in self.decoder.modules():
            if isinstance(module, Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
                _initialise_attention(module)
            elif isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        for layer in self.decoder.encoder.layers:
            nn.init.xavier_uniform_(layer.fc1.weight)
            nn.init.xavier_uniform_(layer.fc2.weight)


def _initialise_attention(
    attention: Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
) -> None:
    """Let head h look in direction h, point k at distance k + 1, all with about equal weight.

    Weights start near zero, where others start at zero: level embeddings act through them alone.
    """
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    directions = directions / directions.abs().amax(dim=1, keepdim=True)
    distances = torch.arange(1, attention.n_points + 1)
    offsets = (directions[:, None, None] * distances[:, None]).expand(
        -1, attention.n_levels, -1, -1
    )
    with torch.no_grad():
        attention.sampling_offsets.bias.copy_(offsets.flatten())
    nn.init.normal_(attention.sampling_offsets.weight, std=_NEARLY_ZERO)
    nn.init.normal_(attention.attention_weights.weight, std=_NEARLY_ZERO)
    nn.init.zeros_(attention.attention_weights.bias)
    for layer in (attention.value_proj, attention.output_proj):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
