import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from torch.utils.data import DataLoader

from tris.metrics.counts import count_row
from tris.metrics.gather import gather_rows
from tris.metrics.rows import NUM_COLUMNS
from tris.metrics.saliency import NUM_SALIENCY_COLUMNS, saliency_row
from tris.metrics.summary import compute_metrics

LENGTHS, BATCHES = (1, 5, 7, 9), (1, 2, 4)


def make_row(number):
    random = np.random.default_rng(number)
    prediction, target = random.random((2, 6, 8)) < 0.5
    return count_row(
        prediction,
        target,
        expression_id=number,
        referent_id=number // 2,
        is_no_target=number % 3 == 2,
        point=(number % 8, number % 6),
    )


def make_rows(numbers):
    return np.stack([make_row(number) for number in numbers])


def score_in_two_processes(path):
    AcceleratorState._reset_state(reset_partial_state=True)  # a test before may have left its own
    accelerator = Accelerator(cpu=True)
    found = {"processes": accelerator.num_processes}
    for length in LENGTHS:
        for batch in BATCHES:
            loader = accelerator.prepare(DataLoader(torch.arange(length), batch_size=batch))
            mine = [make_rows(numbers.tolist()) for numbers in loader]
            rows = gather_rows(np.concatenate([np.zeros((0, NUM_COLUMNS), np.int64), *mine]))
            found[f"{length} {batch}"] = compute_metrics(rows)
    own = np.full((accelerator.process_index * 2, NUM_SALIENCY_COLUMNS), 0.5)
    own[:, 0] = np.arange(len(own))
    found["uneven"] = gather_rows(own)[:, 0].tolist()
    if accelerator.is_main_process:
        path.write_text(json.dumps(found))
    accelerator.end_training()


@pytest.mark.multiprocess
def test_two_processes_print_the_numbers_of_one_for_every_length_and_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # Accelerate warns where it has to choose
    path = tmp_path / "found.json"
    debug_launcher(score_in_two_processes, (path,), num_processes=2)
    found = json.loads(path.read_text())
    assert found.pop("processes") == 2
    assert found.pop("uneven") == [0, 1]
    for name, metrics in found.items():
        length = int(name.split()[0])
        assert metrics == compute_metrics(make_rows(range(length))), name


def test_one_process_keeps_its_rows_without_duplicates():
    rows = make_rows([3, 1, 3])
    np.testing.assert_array_equal(gather_rows(rows), make_rows([1, 3]))


def test_saliency_rows_are_gathered_too():
    target = np.eye(8, dtype=bool)
    rows = np.stack([saliency_row(target, target, expression_id=n) for n in (2, 1, 2)])
    assert gather_rows(rows)[:, 0].tolist() == [1, 2]
