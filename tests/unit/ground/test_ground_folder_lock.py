import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
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


def forge_locks(directory, count, host):
    for index in range(count):
        writer = {"pid": 10 + index, "host": host, "started": 1.0}
        writer |= {"process_index": index, "num_processes": count}
        path = directory / f"lock-{index:05d}-of-{count:05d}.json"
        path.write_text(json.dumps(writer))


def test_the_lock_of_another_machine_is_believed(tmp_path):
    pid = dead_pid()
    forge_lock(tmp_path, host="elsewhere", pid=pid)
    with pytest.raises(InputError) as refusal:
        lock(tmp_path)
    assert str(refusal.value) == (
        f"process {pid} on elsewhere is writing {tmp_path}; wait for it or stop it, "
        f"or delete {tmp_path}/lock-*.json if you know that it is gone."
    )


@pytest.mark.parametrize(("index", "count"), [(0, 3), (2, 3), (0, 1)])
def test_a_refusal_names_every_holder_at_once(tmp_path, index, count):
    forge_locks(tmp_path, 3, "elsewhere")
    held = list(tmp_path.iterdir())
    with pytest.raises(InputError) as refusal:
        lock(tmp_path, index, count)
    assert str(refusal.value) == (
        f"processes 10, 11, 12 on elsewhere are writing {tmp_path}; wait for them or stop them, "
        f"or delete {tmp_path}/lock-*.json if you know that they are gone."
    )
    assert sorted(tmp_path.iterdir()) == sorted(held)


def test_a_refusal_names_holders_by_host(tmp_path):
    forge_locks(tmp_path, 2, "one")
    forge_locks(tmp_path, 3, "two")
    with pytest.raises(InputError, match=r"processes 10, 11 on one; 10, 11, 12 on two are writing"):
        lock(tmp_path)


def link_nothing(number):
    def link(source, target):
        raise OSError(number, os.strerror(number))

    return link


def link_and_lose_the_answer(source, target, link=os.link):
    link(source, target)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


FILE_SYSTEMS = {
    "EPERM": link_nothing(errno.EPERM),
    "EOPNOTSUPP": link_nothing(errno.EOPNOTSUPP),
    "ENOSYS": link_nothing(errno.ENOSYS),
    "answer lost": link_and_lose_the_answer,
}


@pytest.fixture(params=FILE_SYSTEMS)
def odd_file_system(request, monkeypatch):
    monkeypatch.setattr(os, "link", FILE_SYSTEMS[request.param])


@pytest.mark.usefixtures("odd_file_system")
def test_where_hard_links_fail_one_job_holds_the_folder(tmp_path):
    held = lock(tmp_path)
    for index, count in ((0, 1), (0, 2)):
        with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing"):
            lock(tmp_path, index, count)
    held.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("odd_file_system")
def test_where_hard_links_fail_a_dead_lock_is_taken_over(tmp_path):
    forge_lock(tmp_path, pid=dead_pid())
    lock(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_where_modes_cannot_be_set_a_lock_is_made_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fchmod", link_nothing(errno.EPERM))
    held = lock(tmp_path)
    with pytest.raises(InputError, match="is writing"):
        lock(tmp_path)
    held.release()
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_disk_stays_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", link_nothing(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        lock(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_written_without_links_is_not_left(tmp_path, monkeypatch):
    def fill_the_disk(handle, mode):
        os.close(handle)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", link_nothing(errno.EPERM))
    monkeypatch.setattr(os, "fdopen", fill_the_disk)
    with pytest.raises(OSError, match="full"):
        lock(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("begun", ["", '{"pid": 1, "ho'])
def test_a_lock_that_is_being_written_is_waited_for(tmp_path, begun):
    held = lock(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    path.write_text(begun)
    rest = threading.Timer(0.2, path.write_text, [whole])
    rest.start()
    with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is writing"):
        lock(tmp_path)
    rest.join()
    held.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["[]", "", '{"pid": 1, "ho'])
def test_a_damaged_lock_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setattr("tris.folder_lock._PATIENCE", 0.1)
    path = forge_lock(tmp_path)
    path.write_text(content)
    with pytest.raises(InputError, match="is no lock file"):
        lock(tmp_path)
    assert path.exists()


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
