"""Which weights a training hands over: the last, or the best on the validation split."""

from collections.abc import Mapping
from pathlib import Path

from tris.errors import InputError
from tris.model_directory import PretrainedModel
from tris.training.run import TrainingRun

CANDIDATES = ("mean_iou", "peak_in_mask_accuracy", "generalized_mean_iou")
"""Kept apart: the best masks, peaks and refusals are rarely of the same step."""


class Delivery:
    """Keeps ``best_<metric>`` model directories and writes ``model`` at the end."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self._every = run.config.evaluate_every
        if self._every == 0:
            self._every = run.steps_per_epoch

    @property
    def is_evaluation_due(self) -> bool:
        """Whether the step that was just done is to be validated.

        Not at the end where the last weights are delivered anyway: `stages/evaluate.py` scores
        them.
        """
        if self._every is None or not self.run.has_stepped:
            return False
        if self.run.is_done:
            return self.run.config.select != "last"
        return self.run.step % self._every == 0

    def note(self, metrics: Mapping[str, float]) -> None:
        """Show the metrics and keep the weights that are best by one of them."""
        shown = {
            "PointM": "peak_in_mask_accuracy", "mIoU": "mean_iou", "gIoU": "generalized_mean_iou",
        }  # fmt: skip
        self.run.show({name: metrics[key] for name, key in shown.items() if key in metrics})
        for metric in CANDIDATES:
            if metric in metrics and self.run.improves(metric, metrics[metric]):
                self._write(self._best(metric))

    def finish(self) -> None:
        """Write the model directory that the config selects, and close the training.

        Raises:
            InputError: If weights were to be selected, and this training was never evaluated.
        """
        final, select = self.run.directory / "model", self.run.config.select
        if select == "last":
            self._write(final)
        elif select not in self.run.progress.best:
            raise InputError(
                f"No evaluation gave {select}, by which weights were to be selected: remove "
                f"{self.run.directory} to train again, with training.evaluate_every or select=last."
            )
        elif self.run.accelerator.is_main_process:
            PretrainedModel.from_pretrained(self._best(select)).save_pretrained(final)
        self.run.finish()

    def _best(self, metric: str) -> Path:
        return self.run.directory / f"best_{metric}"

    def _write(self, directory: Path) -> None:
        if not self.run.accelerator.is_main_process:
            return
        network = self.run.delivered_network()
        if not isinstance(network, PretrainedModel):
            raise TypeError(f"A {type(network).__name__} cannot be written as a model directory.")
        network.save_pretrained(directory)
