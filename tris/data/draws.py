"""Random choices that depend on their key alone: the same in every process and after a resume."""

from typing import Literal

import numpy as np

_PURPOSES = ("order", "sentence", "negatives")


def draw(purpose: Literal["order", "sentence", "negatives"], *key: int) -> np.random.Generator:
    """Return a generator that is fixed by purpose and key (seed, epoch, number; all >= 0)."""
    return np.random.default_rng([_PURPOSES.index(purpose), *key])
