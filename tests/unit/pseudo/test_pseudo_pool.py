import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tris.errors import InputError
from tris.pseudo.label import label_referent
from tris.pseudo.label_presets import EMBEDDED_LABELS
from tris.pseudo.pool import TASKS_IN_FLIGHT, ImageTask, LabelPool
from tris.pseudo.rivals import separate_contests

IMPORTABLE = {"PYTHONPATH": str(Path(__file__).parents[3])}


def make_tasks(count):
    generator = np.random.default_rng(0)
    for number in range(count):
        yield ImageTask(
            key=("toy", number),
            response_logits=generator.normal(size=(1, 3, 3)).astype(np.float32),
            image=generator.integers(0, 255, (12, 14, 3), np.uint8),
            contests=separate_contests(1),
        )


def label_here(count):
    return [
        (task.key, label_referent(task.response_logits[0], task.image, EMBEDDED_LABELS))
        for task in make_tasks(count)
    ]


def assert_same(found, expected):
    assert [key for key, _ in found] == [key for key, _ in expected]
    for (_, labels), (_, right) in zip(found, expected, strict=True):
        left = labels[0]
        assert left.degeneracy == right.degeneracy
        np.testing.assert_array_equal(left.label, right.label)


def test_without_workers_labels_are_made_here_in_order():
    with LabelPool(EMBEDDED_LABELS, 0) as pool:
        assert_same(list(pool.refine_images(make_tasks(5))), label_here(5))


@pytest.fixture(scope="module")
def pool():
    with LabelPool(EMBEDDED_LABELS, 2) as pool:
        yield pool


@pytest.mark.multiprocess
def test_workers_give_the_same_labels_in_the_same_order(pool):
    count = 3 * TASKS_IN_FLIGHT
    assert_same(list(pool.refine_images(make_tasks(count))), label_here(count))


@pytest.mark.multiprocess
def test_only_a_few_tasks_are_read_ahead(pool):
    read = 0

    def watched():
        nonlocal read
        for task in make_tasks(60):
            read += 1
            yield task

    next(pool.refine_images(watched()))
    assert read <= TASKS_IN_FLIGHT * 2 + 1


@pytest.mark.multiprocess
def test_bad_input_inside_a_worker_reaches_the_caller_as_it_is(pool):
    task = next(make_tasks(1))._replace(response_logits=np.full((1, 2, 2), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        list(pool.refine_images([task]))


@pytest.mark.multiprocess
def test_a_worker_that_dies_is_reported_in_one_sentence():
    with LabelPool(EMBEDDED_LABELS, 1) as pool:
        labels = pool.refine_images(make_tasks(40))
        next(labels)
        children = psutil.Process().children(recursive=True)
        workers = [child for child in children if not child.children() and _is_worker(child)]
        assert workers
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(InputError, match="worker died"):
            list(labels)


@pytest.mark.multiprocess
def test_workers_leave_when_the_process_that_started_them_is_killed():
    script = (
        "import json, os, psutil, signal\n"
        "from tris.pseudo.label_presets import EMBEDDED_LABELS\n"
        "from tris.pseudo.pool import LabelPool\n"
        "with LabelPool(EMBEDDED_LABELS, 2):\n"
        "    children = psutil.Process().children(recursive=True)\n"
        "    print(json.dumps([child.pid for child in children]), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ | IMPORTABLE
    ) as parent:
        workers = json.loads(parent.stdout.readline())
    assert len(workers) >= 2
    _, alive = psutil.wait_procs([psutil.Process(p) for p in workers if psutil.pid_exists(p)], 20)
    assert not alive


def _is_worker(process):
    # The resource tracker and the fork server are children too; a worker descends from the server.
    parent = process.parent()
    return parent is not None and parent.pid != os.getpid()


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(InputError, match="cannot be negative"):
        LabelPool(EMBEDDED_LABELS, -1)
