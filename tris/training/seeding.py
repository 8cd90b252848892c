"""Random numbers: seeded once, kept in checkpoints."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, *, process_index: int = 0) -> None:
    """Seed Python, NumPy and torch; processes get different streams."""
    mixed = np.random.SeedSequence([seed, process_index]).generate_state(1)[0]
    random.seed(int(mixed))
    np.random.seed(int(mixed))  # noqa: NPY002 - third parties draw from the global generator
    torch.manual_seed(int(mixed))


def random_state() -> dict[str, Any]:
    """Return the state of torch's generators, as plain tensors."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor]) -> None:
    """Continue where `random_state` was taken."""
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
