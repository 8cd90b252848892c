"""What the visible loops share: updates, progress, checkpoints, exact resume."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from tris.batch import Batch
from tris.errors import InputError
from tris.files import sweep_leftovers
from tris.folder_lock import FolderLock
from tris.left_out import check_left_out, describe_left_out, load_stored_state, stored_state
from tris.model_directory import FASTEST_LAYOUT
from tris.training.checkpoint import (
    CHECKPOINTS,
    CheckpointStore,
    read_progress,
    read_tensors,
    write_tensors,
)
from tris.training.fingerprint import check_same, decisive, write_finished
from tris.training.optim import learning_rate_factor, set_learning_rate
from tris.training.seeding import random_state, restore_random_state
from tris.training.settings import TrainingConfig

Batches = Callable[[int], Iterator[Batch]]
"""Gives this process's batches from a pass on, without end."""

_SAME_SIGNAL = 1.0  # seconds
_DELIVERED = ("model", "best_*")
"""Names of the model directories that `tris.training.delivery` writes beside the checkpoints."""


@dataclass
class Progress:
    """Where a run stands; travels in every checkpoint.

    Attributes:
        step: Optimiser steps done.
        tracker_id: W&B run that is continued.
        best: Best validation value of each metric so far.
        figures: Latest values for the progress bar.
    """

    step: int = 0
    tracker_id: str | None = None
    best: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)


class TrainingRun:
    """One training: the optimiser step, the schedule, checkpoints, and where it stands.

    As a context manager it turns Ctrl-C and SIGTERM into a last checkpoint; a second Ctrl-C leaves
    at once. From its making until that context is left it locks its folder, so that two trainings
    never write the same checkpoints.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        config: TrainingConfig,
        total_steps: int,
        steps_per_epoch: int,
        directory: Path,
        fingerprint: Mapping[str, Any],
    ) -> None:
        """Prepare network and optimiser and restore the newest checkpoint.

        Args:
            accelerator: Has the precision; its processes share the work.
            network: What is trained.
            optimizer: Over the network's parameters.
            config: Updates, schedule, checkpoints.
            total_steps: Optimiser steps of the whole run.
            steps_per_epoch: After so many it is saved and evaluated, unless the config has its own
                numbers.
            directory: ``RUN/<job>``; checkpoints go below.
            fingerprint: Settings that a checkpoint must share to be continued.

        Raises:
            InputError: If the checkpoint found belongs to other settings, or another process trains
                in that folder.
        """
        self.accelerator, self.config, self.total_steps = accelerator, config, total_steps
        self.network = network.to(memory_format=FASTEST_LAYOUT)
        self.steps_per_epoch = steps_per_epoch
        self.directory = directory
        self.store = CheckpointStore(directory / CHECKPOINTS, keep=config.keep_checkpoints)
        self.fingerprint = decisive(fingerprint)
        if config.sync_batch_norm and accelerator.num_processes > 1:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        trained = torch.compile(network) if config.compile else network
        self.model, self.optimizer = accelerator.prepare(trained, optimizer)
        self.average = _make_average(self.network, config)
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(
            directory,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        try:
            self.progress = self._resume()
        except BaseException:
            self._lock.release()
            raise
        self._resumed_step = self.step or None
        self._clock = time.monotonic()
        self._images_seen = 0
        self._last_save = time.monotonic()
        self._is_last_pass = True
        self._stop_signal: int | None = None
        self._stop_time = 0.0
        self._old_handlers: dict[int, Any] = {}
        self._bar: tqdm[Any] | None = None

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.progress.step

    @property
    def resumed_step(self) -> int | None:
        """Step of the checkpoint that was found, or None."""
        return self._resumed_step

    @property
    def has_stepped(self) -> bool:
        """Whether the last `update` moved the weights (not so within an accumulated step)."""
        return self._is_last_pass

    @property
    def is_time_to_log(self) -> bool:
        """Whether this step's values are wanted."""
        if not self.has_stepped:
            return False
        return self.step % self.config.log_every == 0 or self.is_done

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.total_steps

    @property
    def _checkpoint_steps(self) -> int | None:
        every = self.config.checkpoint_steps
        return self.steps_per_epoch if every == 0 else every

    def batches(self, make_batches: Batches) -> Iterator[Batch]:
        """Yield batches on this process's device until the run is done.

        Saves when it is time to, and on a signal; call `update` once for each batch.

        Raises:
            KeyboardInterrupt: After the checkpoint that a signal asked for.
        """
        if self.is_done:
            return
        stream = make_batches(self.step * self.config.gradient_accumulation)
        shows = self.accelerator.is_main_process
        self._bar = tqdm(
            total=self.total_steps, initial=self.step, disable=not shows, unit="step",
            dynamic_ncols=True, mininterval=1.0, desc=self.directory.name,
        )  # fmt: skip
        try:
            while not self.is_done:
                for number in range(self.config.gradient_accumulation):
                    self._is_last_pass = number + 1 == self.config.gradient_accumulation
                    batch: Batch = send_to_device(next(stream), self.accelerator.device)
                    images = batch.images.contiguous(memory_format=FASTEST_LAYOUT)
                    yield batch._replace(images=images)
                self._bar.update(1)
                self._save_when_due()
        finally:
            self._bar.close()

    def update(self, losses: Mapping[str, Tensor], batch: Batch) -> None:
        """Backpropagate the sum of the losses and, on the last pass of a step, move the weights.

        Raises:
            InputError: If the loss is not finite; the batch's ids are saved beside the run.
        """
        total = torch.stack(list(losses.values())).sum()
        self._images_seen += len(batch.images) * self.accelerator.num_processes
        self._check_finite(total, losses, batch)
        with self._without_exchange():
            self.accelerator.backward(total / self.config.gradient_accumulation)
        if not self._is_last_pass:
            return
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        set_learning_rate(
            self.optimizer, learning_rate_factor(self.step, self.total_steps, self.config)
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.progress.step += 1

    def log_values(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the values to log, under ``train/``, and show loss and speed beside the bar."""
        terms = {name: float(loss.detach()) for name, loss in losses.items()}
        now = time.monotonic()
        speed = self._images_seen / max(now - self._clock, 1e-9)
        self._clock, self._images_seen = now, 0
        total = sum(terms.values())
        self.show({"loss": total, "images/s": speed})
        rates = {f"train/lr_{g['name']}": g["lr"] for g in self.optimizer.param_groups}
        named = {f"train/{name}": value for name, value in terms.items()}
        return {"train/loss": total, "train/images_per_second": speed, **named, **rates}

    def show(self, figures: Mapping[str, float]) -> None:
        """Show values beside the progress bar."""
        self.progress.figures |= dict(figures)
        if self._bar is not None:
            shown = {name: f"{value:.3f}" for name, value in self.progress.figures.items()}
            self._bar.set_postfix(shown, refresh=False)

    def delivered_network(self) -> nn.Module:
        """Return the weights that count: the average where one is kept."""
        return self.network if self.average is None else self.average.module

    def network_to_evaluate(self) -> nn.Module:
        """Return `delivered_network` in evaluation mode, alike in every process.

        Processes see different batches, so batch statistics differ until the main process's are
        taken; all processes call this together.
        """
        network = self.delivered_network()
        if self.accelerator.num_processes > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)
        return network.eval()

    def improves(self, metric: str, value: float) -> bool:
        """Remember the best value of a metric; say whether this one is it."""
        if value <= self.progress.best.get(metric, -math.inf):
            return False
        self.progress.best[metric] = value
        return True

    def finish(self) -> None:
        """Note that the delivered weights are written, and drop the checkpoints."""
        if self.accelerator.is_main_process:
            write_finished(self.directory, self.fingerprint, self.progress.best)
            self.store.clear()
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write a checkpoint; every process takes part."""
        scratch = self.store.begin(self.step)
        own = {"random": random_state()}
        write_tensors(own, scratch / f"process-{self.accelerator.process_index}.pt")
        if self.accelerator.is_main_process:
            shared: dict[str, Any] = {
                "network": stored_state(self.network),
                "left_out": describe_left_out(self.network),
                "optimizer": self.optimizer.state_dict(),
            }
            if self.average is not None:
                shared["average"] = stored_state(self.average)
            if self.accelerator.scaler is not None:
                shared["scaler"] = self.accelerator.scaler.state_dict()
            write_tensors(shared, scratch / "shared.pt")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.store.finish(self.step, self._describe())
        self.accelerator.wait_for_everyone()
        self._last_save = time.monotonic()

    def __enter__(self) -> "TrainingRun":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old_handlers[number] = signal.signal(number, self._note_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._lock.release()

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        is_again = self._stop_signal is not None and number == signal.SIGINT
        # The terminal and a launcher may both pass the same Ctrl-C on.
        if is_again and time.monotonic() - self._stop_time > _SAME_SIGNAL:
            raise KeyboardInterrupt
        if self._stop_signal is None:
            self._stop_signal, self._stop_time = number, time.monotonic()

    def _save_when_due(self) -> None:
        """Save on a signal to any process, and when the step or any process's clock says so."""
        wants_stop = self._stop_signal is not None
        is_due = time.monotonic() - self._last_save > 60 * self.config.checkpoint_minutes
        if self._checkpoint_steps:
            is_due |= self.step % self._checkpoint_steps == 0 and not self.is_done
        if self.accelerator.num_processes > 1:
            flags = torch.tensor([wants_stop, is_due], device=self.accelerator.device).long()
            wants_stop, is_due = (
                bool(flag) for flag in self.accelerator.reduce(flags, reduction="sum")
            )
        if wants_stop or is_due:
            self.save()
        if wants_stop:
            raise KeyboardInterrupt

    def _without_exchange(self) -> AbstractContextManager[Any]:
        if self._is_last_pass:
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.no_sync(self.model)
        return context

    def _check_finite(self, total: Tensor, losses: Mapping[str, Tensor], batch: Batch) -> None:
        if bool(torch.isfinite(total)):
            return
        values = {name: float(loss) for name, loss in losses.items()}
        ids = {
            "step": self.step,
            "losses": {name: str(value) for name, value in values.items()},
            "image_id": batch.image_id.tolist(),
            "referent_id": batch.referent_id.tolist(),
            "expression_id": batch.expression_id.tolist(),
        }
        path = self.directory / f"non_finite-{self.accelerator.process_index}.json"
        path.write_text(json.dumps(ids, indent=2) + "\n")
        raise InputError(
            f"The loss is not finite at step {self.step} ({values}); the ids of its batch are in "
            f"{path}. Lower the learning rate or clip gradients; the last checkpoint is whole."
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "num_processes": self.accelerator.num_processes,
            "tracker_id": self.progress.tracker_id,
            "best": self.progress.best,
            "fingerprint": self.fingerprint,
        }

    def _resume(self) -> Progress:
        if self.accelerator.is_main_process:
            self.store.sweep()
            for names in _DELIVERED:
                sweep_leftovers(self.directory, names)
        self.accelerator.wait_for_everyone()
        checkpoint = self.store.latest()
        if checkpoint is None:
            return Progress()
        saved = read_progress(checkpoint)
        check_same(saved["fingerprint"], self.fingerprint, made=self.store.directory)
        shared = read_tensors(checkpoint / "shared.pt")
        check_left_out(self.network, shared.get("left_out", {}), made=str(checkpoint))
        load_stored_state(self.network, shared["network"])
        self.optimizer.load_state_dict(shared["optimizer"])
        if self.average is not None:
            load_stored_state(self.average, shared["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(shared["scaler"])
        own = checkpoint / f"process-{self.accelerator.process_index}.pt"
        if own.is_file():
            restore_random_state(read_tensors(own)["random"])
        return Progress(
            step=saved["step"], tracker_id=saved["tracker_id"], best=dict(saved["best"])
        )


def _make_average(network: nn.Module, config: TrainingConfig) -> AveragedModel | None:
    if config.ema_decay is None:
        return None
    # Buffers are copied: batch statistics are averages already, an infinite constant has none.
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
