"""From the encoder's pyramid to visual features, triphasic features, and a mask."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tris.layers.resize import resize

_CHANNELS_PER_GROUP = 16


class MergeBlock(nn.Module):
    """Scale up to the finer level, join it, convolve twice: one step of LAVT's decoder.

    Normalised within each map (group norm; LAVT: batch norm), since the photographs of a group,
    and main and mirror passes, must not change each other's statistics.

    Args:
        coarse_channels: Of the features from below.
        fine_channels: Of the level that joins.
        out_channels: Of the result.
        hint_channels: Of maps that join as well; 0 = none.
        is_signed: Whether the last rectifier is left out.

    Source:
        LAVT (arXiv 2112.02244), section 3.4.
    """

    def __init__(
        self,
        coarse_channels: int,
        fine_channels: int,
        out_channels: int,
        *,
        hint_channels: int = 0,
        is_signed: bool = False,
    ) -> None:
        super().__init__()
        joined = coarse_channels + fine_channels + hint_channels
        groups = max(1, out_channels // _CHANNELS_PER_GROUP)
        while out_channels % groups:
            groups -= 1
        self.layers = nn.Sequential(
            nn.Conv2d(joined, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_channels),
            nn.Identity() if is_signed else nn.ReLU(),
        )

    def forward(
        self,
        coarse: Float[Tensor, "expr coarse_channels _ _"],
        fine: Float[Tensor, "expr fine_channels h w"],
        hints: Float[Tensor, "expr hint_channels _ _"] | None = None,
    ) -> Float[Tensor, "expr out_channels h w"]:
        """Return features at the finer level's size."""
        size = fine.shape[-2:]
        joined = [resize(coarse, size), fine]
        if hints is not None:
            joined.append(resize(hints, size))
        merged: Tensor = self.layers(torch.cat(joined, dim=1))
        return merged


class MaskPredictor(nn.Module):
    """Decode triphasic features with the two finest levels into mask logits.

    Args:
        triphasic_channels: Of z.
        fine_channels: Of the two finest levels, finest first.
        decoder_channels: Of the two steps, coarse one first.
        hint_channels: As in `MergeBlock`.
    """

    def __init__(
        self,
        triphasic_channels: int,
        fine_channels: tuple[int, int],
        decoder_channels: tuple[int, int],
        *,
        hint_channels: int = 0,
    ) -> None:
        super().__init__()
        first, second = decoder_channels
        self.steps = nn.ModuleList(
            [
                MergeBlock(
                    triphasic_channels, fine_channels[1], first, hint_channels=hint_channels
                ),
                MergeBlock(first, fine_channels[0], second, hint_channels=hint_channels),
            ]
        )
        self.head = nn.Conv2d(second, 1, 1)

    def forward(
        self,
        triphasic: Float[Tensor, "expr channels _ _"],
        fine_levels: list[Tensor],
        hints: Float[Tensor, "expr hint_channels _ _"] | None,
        *,
        size: torch.Size,
    ) -> Float[Tensor, "expr height width"]:
        """Return logits of ``size``.

        Args:
            triphasic: z.
            fine_levels: The two finest levels of the pyramid, finest first.
            hints: Maps that join every step.
            size: Height, width of the network input.
        """
        features = self.steps[0](triphasic, fine_levels[1], hints)
        features = self.steps[1](features, fine_levels[0], hints)
        return resize(self.head(features), size)[:, 0]


class TriphasicEmbedding(nn.Module):
    """Bring triphasic features and sentences into the space where their distance is taken.

    Equation 5 measures the distance between maps of visual channels and a vector of text channels
    and does not say how they come together. Here: a cell-wise layer, mean and maximum over the
    cells (an object may be small) and a linear layer on one side, a linear layer on the other.

    Args:
        triphasic_channels: Of z.
        channels: Of the cell-wise layer, and of the space.
        text_dim: Of the text features.
    """

    def __init__(self, triphasic_channels: int, channels: int, text_dim: int) -> None:
        super().__init__()
        self.cells = nn.Sequential(nn.Conv2d(triphasic_channels, channels, 1), nn.ReLU())
        self.projection = nn.Linear(2 * channels, channels)
        self.text_projection = nn.Linear(text_dim, channels)

    def forward(
        self,
        triphasic: Float[Tensor, "expr triphasic_channels h w"],
        text: Float[Tensor, "expr dim"],
        anti_text: Float[Tensor, "expr dim"],
    ) -> tuple[Float[Tensor, "expr"], Float[Tensor, "expr"]]:
        """Return the Euclidean distances to the expression and to the anti-expression, float32."""
        cells = self.cells(triphasic)
        pooled = torch.cat([cells.mean(dim=(2, 3)), cells.amax(dim=(2, 3))], dim=1)
        vector = self.projection(pooled)
        first, second = (
            _distance(vector, self.text_projection(each)) for each in (text, anti_text)
        )
        return first, second


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the distance per row; the small term keeps its gradient finite at 0."""
    distance: Tensor = ((first.float() - second.float()).square().sum(dim=1) + 1e-12).sqrt()
    return distance
