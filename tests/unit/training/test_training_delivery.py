from types import SimpleNamespace

import pytest
import torch

from configs.segmenter import tris_debug
from tris.errors import InputError
from tris.segmenters.contract import Segmenter
from tris.training.delivery import Delivery
from tris.training.run import Progress, TrainingRun
from tris.training.settings import TrainingConfig


class Run(TrainingRun):
    """What a delivery uses of a training; a weight says at which step it was written."""

    step = 0
    is_done = False
    has_stepped = True
    is_finished = False

    def __init__(self, directory, **settings):
        self.config = TrainingConfig(**settings)
        self.directory = directory
        self.steps_per_epoch = 3
        self.accelerator = SimpleNamespace(is_main_process=True)
        self.progress = Progress()
        self.network = tris_debug.get_debug_config().build()

    def delivered_network(self):
        with torch.no_grad():
            next(self.network.parameters()).fill_(self.step)
        return self.network

    def improves(self, metric, value):
        is_better = value > self.progress.best.get(metric, -1)
        if is_better:
            self.progress.best[metric] = value
        return is_better

    def show(self, figures):
        self.shown = figures

    def finish(self):
        self.is_finished = True


def step_of(directory):
    return float(next(Segmenter.from_pretrained(directory).parameters()).detach().flatten()[0])


def deliver(run, metrics):
    delivery = Delivery(run)
    for run.step, values in enumerate(metrics, start=1):
        delivery.note(values)
    delivery.finish()


def evaluated_steps(run, *, last=7):
    delivery = Delivery(run)
    found = []
    for run.step in range(1, last + 1):
        run.is_done = run.step == last
        if delivery.is_evaluation_due:
            found.append(run.step)
    return found


RISE_AND_FALL = [
    {"mean_iou": 0.1, "peak_in_mask_accuracy": 0.9, "generalized_mean_iou": 0.2},
    {"mean_iou": 0.3, "peak_in_mask_accuracy": 0.2, "generalized_mean_iou": 0.1},
    {"mean_iou": 0.2, "peak_in_mask_accuracy": 0.8, "generalized_mean_iou": 0.3},
    {"mean_iou": 0.2, "peak_in_mask_accuracy": 0.8, "generalized_mean_iou": 0.2},
]


@pytest.mark.parametrize(
    ("select", "step"),
    [("mean_iou", 2), ("peak_in_mask_accuracy", 1), ("generalized_mean_iou", 3), ("last", 4)],
)
def test_the_weights_that_the_config_selects_are_delivered(tmp_path, select, step):
    run = Run(tmp_path, select=select)
    deliver(run, RISE_AND_FALL)
    assert step_of(tmp_path / "model") == step
    assert step_of(tmp_path / "best_mean_iou") == 2
    assert step_of(tmp_path / "best_peak_in_mask_accuracy") == 1
    assert run.is_finished


def test_the_best_of_an_earlier_training_is_not_delivered(tmp_path):
    deliver(Run(tmp_path, select="mean_iou"), RISE_AND_FALL)
    run = Run(tmp_path, select="mean_iou")
    with pytest.raises(InputError, match=r"No evaluation gave mean_iou"):
        deliver(run, [])
    assert not run.is_finished


def test_only_the_main_process_writes(tmp_path):
    run = Run(tmp_path)
    run.accelerator.is_main_process = False
    deliver(run, RISE_AND_FALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("every", "due"), [(0, [3, 6, 7]), (2, [2, 4, 6, 7]), (None, [])])
def test_evaluations_are_due_every_epoch_or_every_so_many_steps_and_at_the_end(
    tmp_path, every, due
):
    assert evaluated_steps(Run(tmp_path, evaluate_every=every)) == due


@pytest.mark.parametrize(("every", "due"), [(0, [3, 6]), (2, [2, 4, 6]), (7, []), (None, [])])
def test_last_weights_that_are_delivered_anyway_are_not_evaluated(tmp_path, every, due):
    assert evaluated_steps(Run(tmp_path, evaluate_every=every, select="last")) == due


def test_no_evaluation_is_due_within_an_accumulated_step(tmp_path):
    run = Run(tmp_path, evaluate_every=1)
    run.step, run.has_stepped = 1, False
    assert not Delivery(run).is_evaluation_due
