"""Random numbers: seeded once, kept in checkpoints."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, *, process_index: int = 0) -> None:
    """Seed Python, NumPy and torch; processes get different streams."""
    mixed = np.random.SeedSequence([seed, process_index]).generate_state(1)[0]
    random.seed(int(mixed))
    np.random.seed(int(mixed))  # noqa: NPY002 - third parties draw from the global generator
    torch.manual_seed(int(mixed))


def random_state() -> dict[str, Any]:
    """Return the state of all global generators, as tensors and plain containers."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is meant
    state: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Continue where `random_state` was taken."""
    torch.set_rng_state(state["cpu"].cpu())
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
