"""A network and its loss behind one forward, which is what data-parallel training hooks into."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tris.batch import Batch

LossFunction = Callable[[Any, Batch], dict[str, Tensor]]


class NetworkWithLoss(nn.Module):
    """Calls ``loss(network, batch)`` in its forward.

    Attributes:
        network: What is trained; its weights are saved under ``network.``.
    """

    def __init__(self, network: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named, weighted loss terms."""
        return self._loss(self.network, batch)
