"""AdamW over parameter groups, and the learning rate as a pure function of the step."""

import math
from collections.abc import Sequence

import torch

from tris.model_directory import ParameterGroup
from tris.training.settings import TrainingConfig


def build_optimizer(groups: Sequence[ParameterGroup], config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW; each group remembers its full learning rate as ``base_lr``."""
    return torch.optim.AdamW(
        [
            {
                "params": group.parameters,
                "name": group.name,
                "base_lr": config.learning_rate * group.learning_rate_scale,
                "lr": config.learning_rate * group.learning_rate_scale,
                "weight_decay": config.weight_decay
                if group.weight_decay is None
                else group.weight_decay,
            }
            for group in groups
            if group.parameters
        ],
        foreach=True,
    )


def learning_rate_factor(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Return the factor on the learning rate of optimiser step ``step``, from 0.

    The released stage 2 steps its schedule once an epoch while dividing by iterations, so its
    rate never falls: ``schedule="constant"`` reproduces that.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    progress = min(step / max(total_steps, 1), 1.0)
    if config.schedule == "poly":
        return warmup * float((1 - progress) ** config.power)
    if config.schedule == "cosine":
        part = max(progress - config.decay_from, 0) / (1 - config.decay_from)
        fall = 0.5 * (1 + math.cos(math.pi * part))
        return warmup * (config.lowest_rate + (1 - config.lowest_rate) * fall)
    if config.schedule == "step":
        falls = sum(step >= round(part * total_steps) for part in config.decay_at)
        return warmup * float(0.1**falls)
    return warmup


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's ``base_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
