import json
import os
import signal

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tris.batch import Batch
from tris.errors import InputError
from tris.model_directory import ParameterGroup
from tris.training.optim import build_optimizer
from tris.training.run import TrainingRun
from tris.training.settings import TrainingConfig


def make_batch(number):
    generator = torch.Generator().manual_seed(number)
    ids = torch.arange(2) + 10 * number
    return Batch(
        images=torch.randn(2, 3, 4, 4, generator=generator),
        image_id=ids,
        original_size=torch.full((2, 2), 4),
        content_size=torch.full((2, 2), 4),
        token_ids=torch.ones(2, 3, dtype=torch.long),
        token_mask=torch.ones(2, 3, dtype=torch.bool),
        image_index=torch.arange(2),
        referent_id=ids,
        expression_id=ids,
        text_id=ids,
        is_no_target=torch.zeros(2, dtype=torch.bool),
        group_index=torch.zeros(2, dtype=torch.long),
    )


def stream(start):
    """Endless batches, each with its number."""
    while True:
        yield make_batch(start)
        start += 1


class Toy(nn.Module):
    """Draws random numbers in training and keeps batch statistics, as real networks do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 2)
        )
        # As CLIP's text transformer has: a constant, partly infinite, not saved.
        self.register_buffer("causal", torch.full((2, 2), -torch.inf).triu(1), persistent=False)

    def forward(self, batch):
        return self.layers(batch.images).square().mean()


def make_run(folder, *, steps=6, fingerprint=None, **settings):
    torch.manual_seed(0)
    network = Toy()
    settings = {"checkpoint_steps": None, **settings}
    config = TrainingConfig(steps=steps, learning_rate=0.01, schedule="constant", **settings)
    return TrainingRun(
        Accelerator(cpu=True),
        network,
        build_optimizer([ParameterGroup("all", list(network.parameters()))], config),
        config=config,
        total_steps=steps,
        steps_per_epoch=3,
        directory=folder,
        fingerprint=fingerprint or {},
    )


def train(run, *, stop_at=None, number=signal.SIGINT):
    """Go through the loop as the stages do; a signal arrives while step ``stop_at`` is computed."""
    steps = []
    with run:
        run.model.train()
        for batch in run.batches(stream):
            run.update({"loss": run.model(batch)}, batch)
            steps.append(run.step)
            if run.step == stop_at:
                os.kill(os.getpid(), number)
    return steps


def weights(run):
    return {name: value.clone() for name, value in run.delivered_network().state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


SETTINGS = {
    "plain": {},
    "average": {"ema_decay": 0.5},
    "accumulated and clipped": {"gradient_accumulation": 2, "clip_norm": 0.1},
}


def test_an_average_keeps_constants_and_the_latest_batch_statistics(tmp_path):
    run = make_run(tmp_path, ema_decay=0.9)
    train(run)
    averaged, latest = run.delivered_network(), run.network
    assert averaged.causal.tolist() == [[0, -torch.inf], [0, 0]]
    assert torch.equal(averaged.layers[1].running_var, latest.layers[1].running_var)
    assert not torch.equal(averaged.layers[0].weight, latest.layers[0].weight)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_stopped_training_resumes_exactly_dropout_included(tmp_path, settings, stop_at):
    unbroken = make_run(tmp_path / "unbroken", **settings)
    train(unbroken)
    with pytest.raises(KeyboardInterrupt):
        train(make_run(tmp_path / "broken", **settings), stop_at=stop_at)
    resumed = make_run(tmp_path / "broken", **settings)
    assert resumed.resumed_step == stop_at
    train(resumed)
    assert equal(weights(resumed), weights(unbroken))


def test_without_its_checkpoint_the_rest_would_differ(tmp_path):
    """What the tests of resuming compare does depend on all the steps."""
    weights_of = []
    for steps in (5, 6):
        run = make_run(tmp_path / str(steps), steps=steps)
        train(run)
        weights_of.append(weights(run))
    assert not equal(*weights_of)


def test_a_termination_signal_saves_as_ctrl_c_does(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(make_run(tmp_path), stop_at=2, number=signal.SIGTERM)
    assert make_run(tmp_path).resumed_step == 2


def test_after_the_loop_signals_are_as_before(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(make_run(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("every", "expected"), [(0, [3, 6]), (2, [2, 4, 6]), (None, [])])
def test_checkpoints_come_every_epoch_or_every_so_many_steps(tmp_path, every, expected):
    run = make_run(tmp_path, steps=8, keep_checkpoints=9, checkpoint_steps=every)
    train(run)
    found = [int(path.name.removeprefix("step-")) for path in run.store.list()]
    assert found == expected


def test_a_checkpoint_is_due_when_the_clock_says_so(tmp_path):
    run = make_run(tmp_path, checkpoint_minutes=0.0, keep_checkpoints=9)
    train(run)
    assert len(run.store.list()) == 6


def test_accumulated_passes_are_one_step(tmp_path):
    run = make_run(tmp_path, gradient_accumulation=2)
    assert train(run) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_two_passes_of_half_a_loss_are_the_step_of_their_mean(tmp_path):
    def first_gradient(passes):
        run = make_run(tmp_path / str(passes), steps=1, gradient_accumulation=passes)
        run.network.eval()
        kept = []
        run.optimizer.optimizer.register_step_pre_hook(
            lambda _, *__: kept.append(run.network.layers[0].weight.grad.clone())
        )
        for batch in run.batches(lambda start: (make_batch(0) for _ in iter(int, 1))):
            run.update({"loss": run.model(batch)}, batch)
        return kept[-1]

    assert torch.allclose(first_gradient(1), first_gradient(2), rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_ids(tmp_path):
    run = make_run(tmp_path / "run")
    before = weights(run)
    batch = next(run.batches(stream))
    losses = {"good": torch.tensor(1.0), "bad": torch.tensor(float("nan"))}
    with pytest.raises(InputError, match="not finite at step 0"):
        run.update(losses, batch)
    saved = json.loads((tmp_path / "run" / "non_finite-0.json").read_text())
    assert saved["expression_id"] == [0, 1]
    assert saved["losses"] == {"good": "1.0", "bad": "nan"}
    assert equal(weights(run), before)


def test_checkpoints_keep_best_figures_and_the_dashboards_run(tmp_path):
    run = make_run(tmp_path)
    run.progress.tracker_id = "abc"
    assert run.improves("mean_iou", 0.25)
    assert not run.improves("mean_iou", 0.25)
    with run:
        run.save()
    resumed = make_run(tmp_path)
    assert (resumed.progress.tracker_id, resumed.progress.best) == ("abc", {"mean_iou": 0.25})


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    with make_run(tmp_path, fingerprint={"seed": 0}) as run:
        run.save()
    with pytest.raises(InputError, match="seed: 0 there, 1 now"):
        make_run(tmp_path, fingerprint={"seed": 1})
    assert not list(tmp_path.glob("lock-*"))


def test_a_second_training_of_a_folder_is_refused_and_leaves_the_first_ones_checkpoint(tmp_path):
    first = make_run(tmp_path)
    scratch = first.store.begin(3)
    with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing {tmp_path};"):
        make_run(tmp_path)
    assert scratch.is_dir()
    with first:
        pass
    make_run(tmp_path)
    assert not scratch.exists()


def test_a_training_that_fails_lets_others_train(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(InputError, match="not finite"), run:
        run.update({"bad": torch.tensor(float("nan"))}, next(run.batches(stream)))
    make_run(tmp_path)


def test_models_that_a_killed_training_left_are_swept_and_one_being_replaced_is_put_back(tmp_path):
    for folder in (".best_mean_iou-old-abcdefgh/old", ".model-12345678", "best_mean_iou_plan"):
        (tmp_path / folder).mkdir(parents=True)
    make_run(tmp_path)
    found = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert found == {"best_mean_iou", "best_mean_iou_plan"}


def test_a_finished_training_drops_its_checkpoints(tmp_path):
    run = make_run(tmp_path)
    run.save()
    run.finish()
    assert run.store.list() == []


def test_values_to_log_are_named_by_loss_and_group(tmp_path):
    run = make_run(tmp_path, steps=1)
    train(run)
    values = run.log_values({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    assert values["train/loss"] == 3.0
    assert values["train/a"] == 1.0
    assert values["train/lr_all"] == pytest.approx(0.01)
    assert values["train/images_per_second"] > 0
