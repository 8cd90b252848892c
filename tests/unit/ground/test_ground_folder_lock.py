import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tris.errors import InputError
from tris.folder_lock import FolderLock

PATIENCE = 60.0  # seconds


def lock(directory, index=0, count=1):
    return FolderLock(directory, process_index=index, num_processes=count)


def test_two_jobs_cannot_write_the_same_folder(tmp_path):
    held = lock(tmp_path)
    with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing"):
        lock(tmp_path)
    with pytest.raises(InputError, match="is writing"):
        lock(tmp_path, 1, 2)
    held.release()
    lock(tmp_path, 1, 2).release()
    assert not list(tmp_path.iterdir())


def test_processes_of_one_job_write_side_by_side(tmp_path):
    held = [lock(tmp_path, index, 2) for index in range(2)]
    assert len(list(tmp_path.glob("lock-*"))) == 2
    for each in held:
        each.release()


def forge_lock(directory, **changes):
    lock(directory)
    (path,) = directory.glob("lock-*")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def dead_pid():
    return next(pid for pid in range(2**22 - 1, 0, -1) if not psutil.pid_exists(pid))


@pytest.mark.parametrize("changes", [{"started": 1.0}, {"pid": None}])
@pytest.mark.parametrize(("index", "count"), [(0, 1), (0, 2)])
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path, changes, index, count):
    changes = {"pid": dead_pid()} if "pid" in changes else changes
    forge_lock(tmp_path, **changes)
    lock(tmp_path, index, count).release()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_another_machine_is_believed(tmp_path):
    forge_lock(tmp_path, host="elsewhere", pid=dead_pid())
    with pytest.raises(InputError, match=r"on elsewhere is writing .* delete lock-00000"):
        lock(tmp_path)


def test_a_damaged_lock_is_named(tmp_path):
    forge_lock(tmp_path).write_text("[]")
    with pytest.raises(InputError, match="is no lock file"):
        lock(tmp_path)


def test_a_lock_that_is_anothers_by_now_is_not_released(tmp_path):
    held = lock(tmp_path)
    (path,) = tmp_path.glob("lock-*")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "elsewhere"}))
    held.release()
    assert path.exists()


PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
from tris.folder_lock import FolderLock, Writer, live_writers

folder = Path(sys.argv[1])
is_alive, unlink = Writer.is_alive.fget, Path.unlink

def look_and_dawdle(writer):
    found = is_alive(writer)
    if not found:
        (folder / f"looked-{os.getpid()}").touch()
        while not (folder / "go on").exists():
            time.sleep(0.01)
    return found

def die_before_a_lock_is_removed(path, missing_ok=False):
    if path.name.startswith("lock-"):
        os.kill(os.getpid(), signal.SIGKILL)
    unlink(path, missing_ok=missing_ok)

def lock():
    return FolderLock(folder / "store", process_index=0, num_processes=1)

"""
DAWDLE = "Writer.is_alive = property(look_and_dawdle)\n"
DIE = "Path.unlink = die_before_a_lock_is_removed\n"
LOCK = "lock()\nprint('taken', flush=True)\nsys.stdin.read()\n"
LIST = "live_writers(folder / 'store')\n"


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def start(program, folder):
    """Start another process, which looks at ``folder/store``."""
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + program, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(path):
    patience = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < patience, f"{path} never came"
        time.sleep(0.01)


def holders(store):
    return [json.loads(path.read_text())["pid"] for path in store.iterdir()]


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("program", "complaint"),
    [(LOCK, f"process {os.getpid()} on .* is writing"), (LIST, "^$")],
    ids=["taking over", "listing"],
)
def test_a_lock_that_came_in_the_place_of_a_dead_one_is_not_removed(
    store, tmp_path, program, complaint
):
    forge_lock(store, pid=dead_pid())
    slow = start(DAWDLE + program, tmp_path)
    wait_for(tmp_path / f"looked-{slow.pid}")
    held = lock(store)
    (tmp_path / "go on").touch()
    printed, complained = slow.communicate(timeout=PATIENCE)
    assert printed == ""
    assert re.search(complaint, complained)
    assert holders(store) == [os.getpid()]
    held.release()
    assert not list(store.iterdir())


@pytest.mark.multiprocess
def test_of_several_that_find_a_dead_lock_one_takes_it_over(store, tmp_path):
    forge_lock(store, pid=dead_pid())
    racers = [start(DAWDLE + LOCK, tmp_path) for _ in range(3)]
    for each in racers:
        wait_for(tmp_path / f"looked-{each.pid}")
    (tmp_path / "go on").touch()
    refused = [each for each in racers if each.stdout.readline() == ""]
    (holder,) = holders(store)
    outputs = {each.pid: each.communicate(timeout=PATIENCE)[1] for each in racers}
    assert sorted(each.pid for each in refused) == sorted(outputs.keys() - {holder})
    assert all(f"process {holder} on" in outputs[each.pid] for each in refused)
    lock(store).release()
    assert not list(store.iterdir())


@pytest.mark.multiprocess
def test_one_that_is_killed_while_it_takes_over_is_taken_over_itself(store, tmp_path):
    forge_lock(store, pid=dead_pid())
    killed = start(DIE + LOCK, tmp_path)
    assert killed.wait(timeout=PATIENCE) == -signal.SIGKILL
    killed.communicate()
    assert len(list(store.iterdir())) == 2
    lock(store).release()
    assert not list(store.iterdir())


@pytest.mark.multiprocess
def test_a_process_that_ended_but_was_not_waited_for_is_dead(store, tmp_path):
    killed = start("lock()\nos.kill(os.getpid(), signal.SIGKILL)\n", tmp_path)
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)
    assert holders(store) == [killed.pid]
    assert psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE
    lock(store).release()
    killed.communicate()
