"""How a network is trained; one dataclass for every stage."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tris.errors import InputError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Selection = Literal["last", "mean_iou", "peak_in_mask_accuracy", "generalized_mean_iou"]

_RANGES: dict[str, Callable[[float], bool]] = {
    "0 or more": lambda value: value >= 0,
    "1 or more": lambda value: value >= 1,
    "a finite number above 0": lambda value: 0 < value < math.inf,
    "0 to 1": lambda value: 0 <= value <= 1,
    "0 to below 1": lambda value: 0 <= value < 1,
}
_WANTED = {
    "global_batch_size": "1 or more",
    "sentences_per_image": "0 or more",
    "flip_probability": "0 to 1",
    "epochs": "a finite number above 0",
    "steps": "1 or more, or None",
    "learning_rate": "0 or more",
    "weight_decay": "0 or more",
    "power": "0 or more",
    "decay_from": "0 to below 1",
    "lowest_rate": "0 to 1",
    "warmup_steps": "0 or more",
    "clip_norm": "a finite number above 0, or None",
    "gradient_accumulation": "1 or more",
    "ema_decay": "0 to below 1, or None",
    "num_workers": "0 or more",
    "checkpoint_minutes": "0 or more",
    "checkpoint_steps": "0 or more, or None",
    "keep_checkpoints": "1 or more",
    "evaluate_every": "0 or more, or None",
    "log_every": "1 or more",
}
"""What each field must be, as a person is told; `_RANGES` checks it."""


@dataclass(frozen=True)
class TrainingConfig:
    """Defaults are the published TRIS settings (section 4.1).

    Attributes:
        global_batch_size: Items per optimiser step over all processes; each takes its share.
        sampling: An item is a referent with one random sentence (``referents``, as published), or
            an image with several of its sentences (``images``).
        sentences_per_image: At most so many with ``sampling="images"``; 0 = all.
        sentences_per_referent: Of each referent at most so many with ``sampling="images"``, drawn
            anew in every pass over the images; None = all.
        flip_probability: Of an image to come mirrored, its sentences with left and right exchanged
            (paper: 0).
        epochs: Passes over the training items; ignored where ``steps`` is given.
        steps: Optimiser steps, or None.
        learning_rate: Of parameter groups with scale 1.
        weight_decay: Of parameter groups that name none.
        schedule: ``poly`` = (1 - step / steps) ** power, ``cosine``, ``constant``, or ``step``.
        power: Exponent of ``poly``.
        decay_from: With ``cosine``: the part of the training, in [0, 1), before which the rate is
            constant.
        lowest_rate: With ``cosine``: where the rate ends, as a factor.
        decay_at: With ``step``: parts of the training, in (0, 1), after each of which the rate
            falls to a tenth.
        warmup_steps: Linear rise from 0.
        clip_norm: Largest gradient norm, or None.
        gradient_accumulation: Passes per optimiser step; stage 1 then compares each image with
            the texts of one pass only. All passes weigh alike, whatever they hold: with
            ``sampling="images"`` and unequal numbers of sentences, a mean over sentences is not
            exactly that of a single pass (parts of one pass on several processes are weighed).
        precision: ``auto`` = bf16 where the processor computes in it, else fp32.
        attention: ``plain`` = matrix products where PyTorch would take its fused kernel: faster on
            a processor where sentences and maps are short, but its memory grows with the square of
            their length; None = PyTorch's choice.
        sync_batch_norm: Batch statistics over all processes (GPUs only).
        compile: `torch.compile` the network.
        ema_decay: Keep an exponential moving average of the weights and deliver that, or None.
        num_workers: Loader workers per process; the batches do not depend on it.
        checkpoint_minutes: Save at least so often.
        checkpoint_steps: Save after every so many steps, too; 0 = once an epoch, None = never.
        keep_checkpoints: Older ones are removed.
        evaluate_every: Steps between evaluations on the validation split; 0 = once an epoch,
            None = never. There is one at the end, too, unless ``select`` is ``last``.
        select: Which weights are delivered: the ``last``, or the best on the validation split
            (``generalized_mean_iou`` where that has sentences about nothing).
        log_every: Steps between logged values.
    """

    global_batch_size: int = 48
    sampling: Literal["referents", "images"] = "referents"
    sentences_per_image: int = 9
    sentences_per_referent: int | None = None
    flip_probability: float = 0.0
    epochs: float = 15.0
    steps: int | None = None
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    power: float = 0.9
    decay_from: float = 0.0
    lowest_rate: float = 0.0
    decay_at: tuple[float, ...] = ()
    warmup_steps: int = 0
    clip_norm: float | None = None
    gradient_accumulation: int = 1
    precision: Precision = "fp32"
    attention: Literal["plain"] | None = None
    sync_batch_norm: bool = False
    compile: bool = False
    ema_decay: float | None = None
    num_workers: int = 4
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int | None = 0
    keep_checkpoints: int = 2
    evaluate_every: int | None = 0
    select: Selection = "mean_iou"
    log_every: int = 20

    def __post_init__(self) -> None:
        """Check what would divide by zero, train nothing or have no effect."""
        for name, wanted in _WANTED.items():
            value = getattr(self, name)
            if value is not None and not _RANGES[wanted.removesuffix(", or None")](value):
                raise InputError(f"{name} is {value}; use {wanted}.")
        never_falls = self.schedule == "step" and not self.decay_at
        if never_falls or not all(0 < part < 1 for part in self.decay_at):
            raise InputError(
                f"decay_at is {self.decay_at}; use parts of the training between 0 and 1, at least "
                "one where schedule is step."
            )
        if self.sentences_per_referent is not None:
            if self.sampling != "images":
                raise InputError(
                    "sentences_per_referent is for sampling=images; a referent of "
                    f"sampling={self.sampling} has one sentence: leave it out."
                )
            if self.sentences_per_referent < 1:
                raise InputError(
                    f"sentences_per_referent is {self.sentences_per_referent}: give 1 or more, or "
                    "None for all."
                )
