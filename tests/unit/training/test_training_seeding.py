import random

import numpy as np
import torch

from tris.training.checkpoint import read_tensors, write_tensors
from tris.training.seeding import random_state, restore_random_state, seed_everything


def draw():
    return random.random(), float(np.random.random()), torch.rand(3).tolist()  # noqa: NPY002


def test_a_seed_fixes_all_three_generators():
    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first


def test_seeds_and_processes_differ():
    draws = []
    for seed, process in ((0, 0), (1, 0), (0, 1)):
        seed_everything(seed, process_index=process)
        draws.append(draw())
    assert len({str(each) for each in draws}) == 3


def test_a_state_that_went_through_a_checkpoint_continues_exactly(tmp_path):
    seed_everything(0)
    draw()
    np.random.standard_normal()  # noqa: NPY002 - leaves a second number cached
    write_tensors({"random": random_state()}, tmp_path / "state.pt")
    expected = draw(), float(np.random.standard_normal())  # noqa: NPY002
    seed_everything(9)
    restore_random_state(read_tensors(tmp_path / "state.pt")["random"])
    assert (draw(), float(np.random.standard_normal())) == expected  # noqa: NPY002
