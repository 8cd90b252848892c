"""The convolution block that the decoders are made of."""

from jaxtyping import Float
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """3 x 3 convolution without bias, batch normalisation, PReLU with one shared slope.

    Source:
        Released TRIS implementation, decoder blocks.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = nn.PReLU()

    def forward(
        self, features: Float[Tensor, "batch channels h w"]
    ) -> Float[Tensor, "batch out_channels h w"]:
        """Return features of the same height and width."""
        return self.finish(self.convolution(features))

    def finish(
        self, convolved: Float[Tensor, "batch out_channels h w"]
    ) -> Float[Tensor, "batch out_channels h w"]:
        """Normalise and activate the output of ``convolution``.

        For callers that add to it, or repeat it, between convolution and normalisation.
        """
        activated: Tensor = self.activation(self.norm(convolved))
        return activated
