"""Random choices that depend on their key alone: the same in every process and after a resume."""

from typing import Literal, get_args

import numpy as np

Purpose = Literal["order", "sentence", "negatives", "phrase", "flip", "composition", "alone"]

_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def draw(purpose: Purpose, *key: int) -> np.random.Generator:
    """Return a generator that is fixed by purpose and key (seed, epoch, number; all >= 0)."""
    return np.random.default_rng([_PURPOSES.index(purpose), *key])
