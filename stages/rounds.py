"""Rounds of stage 2: which network is trained where, on which labels, from which weights.

The last round is trained in the job folder (``RUN/segmenter``), so that whoever wants the segmenter
finds it there, however many rounds there are; earlier ones in ``RUN/rounds/1/segmenter`` and so on,
their labels in ``RUN/labels`` (first round), ``RUN/rounds/2/labels`` and so on. If a run was made
with fewer rounds before, its training, finished or begun, is moved to its place among the earlier
ones.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.label_settings import relabelling_settings, wanted_labels
from stages.setup import Stage, ceiling_job, segmenter_job
from tris.config import to_json
from tris.data.manifest import read_manifest
from tris.errors import InputError
from tris.folder_lock import live_writers
from tris.pseudo.manifest import LabelSettings, digest_of_weights
from tris.pseudo.store import read_store_manifest
from tris.training.checkpoint import CHECKPOINTS, CheckpointStore, read_progress
from tris.training.fingerprint import check_same, read_finished
from tris.training.settings import TrainingConfig


@dataclass(frozen=True)
class Round:
    """One training of stage 2.

    Attributes:
        number: From 1.
        job: Folder below the run; its ``model`` is what is trained.
        name: Of artifacts and logs; no folders in it.
        labels: Folder of the label store; not read by the ceiling.
        labels_name: Of that store's artifact.
        training: Updates and schedule.
        start: Model directory of the round before; None in the first.
        earlier: Updates and schedules of the rounds before, behind whose batches its own come.
    """

    number: int
    job: str
    name: str
    labels: Path
    labels_name: str
    training: TrainingConfig
    start: Path | None
    earlier: tuple[TrainingConfig, ...]


def is_ceiling(stage: Stage) -> bool:
    """Say whether annotated masks are the targets."""
    return "ceiling" in stage.switches


def last_job(stage: Stage) -> str:
    """Return the job folder of the last round."""
    return ceiling_job(stage.config) if is_ceiling(stage) else segmenter_job(stage.config)


def find_round(stage: Stage, number: int) -> Round:
    """Return one round of the segmenter's training, or of the ceiling's.

    Raises:
        InputError: If a group-wise segmenter is to label the split for itself.
    """
    config, folders = stage.config, stage.folders
    if config.segmenter.rounds > 1 and config.segmenter.network.input_spec.group_size:
        raise InputError(
            "A group-wise segmenter learns from groups of photographs and would label each alone: "
            "give ROUNDS=1 (segmenter.rounds)."
        )
    last = last_job(stage)
    training = config.segmenter.training
    earlier: tuple[TrainingConfig, ...] = ()
    labels, labels_name = folders.labels, f"labels-{config.group}"
    if number > 1:
        store = segmenter_job(config).replace("segmenter", "labels", 1)
        labels = folders.run / "rounds" / str(number) / store
        labels_name = f"{store}-round{number}-{config.group}"
        later = later_training(
            training, config.self_training.steps, config.self_training.learning_rate
        )
        training, earlier = later, (training, *(later,) * (number - 2))
    is_last = number == config.segmenter.rounds
    return Round(
        number=number,
        job=last if is_last else earlier_job(last, number),
        name=last if is_last else f"{last}-round{number}",
        labels=labels,
        labels_name=labels_name,
        training=training,
        start=folders.model(earlier_job(last, number - 1)) if number > 1 else None,
        earlier=earlier,
    )


def earlier_job(last: str, number: int) -> str:
    """Return the job folder of a round that is not the last."""
    return f"rounds/{number}/{last}"


def later_training(
    training: TrainingConfig, steps: int | None, learning_rate: float | None
) -> TrainingConfig:
    """Return how later rounds are trained."""
    if steps is not None:
        training = dataclasses.replace(training, steps=steps)
    if learning_rate is not None:
        training = dataclasses.replace(training, learning_rate=learning_rate)
    return training


def label_settings(stage: Stage, this: Round) -> LabelSettings:
    """Return what the labels of a round must have been made with.

    Raises:
        InputError: If the network that makes them is not there.
    """
    if this.start is None:
        return wanted_labels(stage)
    return relabelling_settings(stage, number=this.number, segmenter=this.start)


def make_fingerprint(stage: Stage, this: Round) -> dict[str, Any]:
    """Return the settings that the weights of a round depend on.

    Raises:
        InputError: If its labels are not finished.
    """
    config = stage.config
    stage1 = stage.folders.model("response") / "model.safetensors"
    labels = None if is_ceiling(stage) else read_store_manifest(this.labels)
    settings = {
        "seed": config.seed,
        "data": config.data,
        "segmenter": dataclasses.replace(config.segmenter, training=this.training, rounds=1),
        "stage1": digest_of_weights(stage1) if stage1.is_file() else None,
        "labels": labels.settings if labels else "annotated masks",
        "sources": read_manifest(stage.folders.index).contents,
    }
    if this.start is not None:
        settings |= {"round": this.number, "starts_from": digest_of_weights(this.start)}
        settings["read_before"] = {
            str(number): {"epochs": each.epochs} if each.steps is None else {"steps": each.steps}
            for number, each in enumerate(this.earlier, start=1)
        }
    return to_json(settings)


def adopt_training(stage: Stage, this: Round, fingerprint: dict[str, Any]) -> None:
    """Move a training to its place if a run of fewer rounds made or began it as its last.

    Nothing is trained before this has been settled, or the last round would find its folder taken.

    Raises:
        InputError: If that training still runs, is the same round with other settings or has its
            place taken, or is a later one than this run has.
    """
    last = stage.folders.job(last_job(stage))
    place = stage.folders.job(this.job)
    if place != last:
        for _, writer in live_writers(last):
            raise InputError(
                f"Process {writer.pid} on {writer.host} is training {last}: wait for it or stop it."
            )
    found = read_trained(last)
    number = 0 if found is None else found.get("round", 1)
    if number > stage.config.segmenter.rounds:
        raise InputError(
            f"{last} holds round {number} of a training: give ROUNDS={number} "
            "(segmenter.rounds), or choose another RUN."
        )
    is_misplaced = number == this.number and place != last
    if found is not None and is_misplaced:
        check_same(found, fingerprint, made=last)
        if place.exists():
            raise InputError(
                f"{last} and {place} both hold round {number}: remove the one that you do not want."
            )
    stage.accelerator.wait_for_everyone()
    if is_misplaced and stage.is_main:
        place.parent.mkdir(parents=True, exist_ok=True)
        last.rename(place)
        stage.say(f"{last} is round {this.number} now: moved to {place}.")
    stage.accelerator.wait_for_everyone()


def read_trained(job: Path) -> dict[str, Any] | None:
    """Return the settings of a training that is finished or has a checkpoint, None without one.

    Raises:
        InputError: If the newest checkpoint is damaged.
    """
    found = read_finished(job)
    newest = CheckpointStore(job / CHECKPOINTS, keep=1).latest()
    if found is None and newest is not None:
        begun: dict[str, Any] = read_progress(newest)["fingerprint"]
        return begun
    return found
