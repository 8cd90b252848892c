"""Linear layers with ReLU between them."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class Perceptron(nn.Module):
    """Linear layers over the last axis; ReLU after each but the last.

    Args:
        widths: Of the input, of every hidden layer, and of the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in itertools.pairwise(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the last width, ``(..., widths[-1])``."""
        *hidden, last = self.layers
        for layer in hidden:
            features = layer(features).relu()
        output: Tensor = last(features)
        return output
