"""What every stage-2 network offers, so that trainer, evaluator and `tris predict` serve all."""

import abc
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from tris.batch import Batch, InputSpec, SegmenterOutput
from tris.model_directory import ParameterGroup, PretrainedModel
from tris.response.response_net import ResponseNet


@runtime_checkable
class SegmenterConfig(Protocol):
    """A frozen dataclass that describes one segmenter."""

    def build(self, *, pretrained: bool = True) -> "Segmenter":
        """Make the network; ``pretrained=False`` skips weights that a file will replace."""
        ...


class Segmenter(PretrainedModel, abc.ABC):
    """A network that turns images and expressions into masks.

    `from_pretrained` rebuilds any subclass from its model directory.
    """

    @property
    @abc.abstractmethod
    def input_spec(self) -> InputSpec:
        """Size rule, normalisation and tokenizer that the data room must follow."""

    @abc.abstractmethod
    def forward(self, batch: Batch) -> SegmenterOutput:
        """Return logits for every expression of the batch, in training and in evaluation alike."""

    @abc.abstractmethod
    def loss(self, output: SegmenterOutput, batch: Batch) -> dict[str, Tensor]:
        """Return named scalar terms, weights included; their sum is minimised.

        The experiment may add terms of `tris.segmenters.image_losses` to them.

        Pixels of `IGNORE_INDEX` in ``batch.targets`` count nowhere.

        Raises:
            ValueError: If the batch has no targets.
        """

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return every trainable parameter in exactly one group."""
        return [ParameterGroup("all", [p for p in self.parameters() if p.requires_grad])]

    def frozen_parts(self) -> list[nn.Module]:
        """Return what stays in evaluation while the rest trains: stage 1, where it is an input."""
        return [part for part in self.modules() if isinstance(part, ResponseNet)]

    def train(self, mode: bool = True) -> "Segmenter":
        """Switch the mode of all parts but the frozen ones, which stay in evaluation."""
        super().train(mode)
        for part in self.frozen_parts():
            part.eval()
        return self

    def keep_features_in(self, folder: Path) -> None:
        """Be told where maps of a frozen image encoder may be kept while training.

        Only networks that cache such maps make use of it; the folder is no part of their config.
        """

    def set_progress(self, fraction: float) -> None:
        """Be told how much of the training is done, in [0, 1], before each of its steps.

        Only networks whose loss changes while they train make use of it.
        """
