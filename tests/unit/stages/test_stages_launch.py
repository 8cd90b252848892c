import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stages.launch
from stages.launch import MOST_PER_CORE, count_per_core, environments

SAY = "def say(*words):\n    os.write(1, (' '.join(map(str, words)) + '\\n').encode())\n"
REPOSITORY = Path(__file__).resolve().parents[3]


def command(script, *, num_processes=1):
    return [sys.executable, "-m", "stages.launch", "--nproc", str(num_processes), str(script)]


def launch(script, *arguments, num_processes=1):
    return subprocess.run(
        [*command(script, num_processes=num_processes), *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "stage.py"
        path.write_text(f"import os, signal, sys, time\n{SAY}{text}")
        return path

    return write


def test_arguments_reach_the_stage_and_its_good_end_is_0(script):
    done = launch(script("print(sys.argv[1:])"), "--run", "x", "--help")
    assert (done.returncode, done.stdout) == (0, "['--run', 'x', '--help']\n")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_the_exit_code_of_a_failing_stage_is_kept_and_nothing_is_added(script, num_processes):
    done = launch(script("sys.exit(2)"), num_processes=num_processes)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_several_processes_know_each_other(script):
    text = "say(*(os.environ[k] for k in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_PORT')))"
    lines = sorted(launch(script(text), num_processes=2).stdout.splitlines())
    one, other = (line.split() for line in lines)
    assert (one[:3], other[:3]) == (["0", "0", "2"], ["1", "1", "2"])
    assert one[3] == other[3]


def test_one_process_is_started_as_it_is(script):
    assert launch(script("print('RANK' in os.environ)")).stdout == "False\n"


def test_when_one_fails_the_others_do_not_go_on(script):
    text = "sys.exit(2) if os.environ['RANK'] == '1' else time.sleep(60)"
    start = time.monotonic()
    assert launch(script(text), num_processes=2).returncode == 2
    assert time.monotonic() - start < 30


def test_a_process_that_was_killed_is_reported_as_shells_do(script):
    done = launch(script("os.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode == 137
    assert done.stderr == "error: a process of this stage was ended by SIGKILL.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_signal_reaches_the_stage_which_may_take_its_time(script, number, num_processes):
    path = script(
        "def leave(*_):\n    time.sleep(0.3)\n    say('saved')\n    os._exit(130)\n"
        "signal.signal(signal.SIGINT, leave)\nsignal.signal(signal.SIGTERM, leave)\n"
        "say('ready')\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        command(path, num_processes=num_processes), cwd=REPOSITORY, stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        for _ in range(num_processes):
            assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        assert process.stdout.read() == "saved\n" * num_processes
    assert process.returncode == 130


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 2), (64, MOST_PER_CORE)])
def test_per_core_starts_a_process_for_each_core_but_not_for_very_many(monkeypatch, cores, count):
    monkeypatch.setattr(stages.launch, "GPU_DEVICES", ())
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert count_per_core() == count


def test_per_core_starts_one_process_where_there_is_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(stages.launch, "GPU_DEVICES", (tmp_path / "absent", tmp_path))
    assert count_per_core() == 1


def test_processes_of_per_core_share_the_cores_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert [each["OMP_NUM_THREADS"] for each in environments(4)] == ["1"] * 4
    assert [each["OMP_NUM_THREADS"] for each in environments(2)] == ["2"] * 2


def test_per_core_is_no_argument_of_the_stage(script):
    path = script("say(*sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "stages.launch", "--per-core", str(path), "--run", "x"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert set(done.stdout.splitlines()) == {"--run x"}


def test_less_than_one_process_is_refused(script):
    done = launch(script(""), num_processes=0)
    assert done.returncode == 2
    assert "NPROC must be at least 1, not 0." in done.stderr
