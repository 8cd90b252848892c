import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "configs" / "debug.py"
SEGMENTER = REPOSITORY / "configs" / "segmenter" / "tris_debug.py"
STEPS = (
    ("prepare_data",),
    ("pretrain_clip",),
    ("train_response",),
    ("make_pseudo_labels", "--replace"),
    ("train_segmenter",),
    ("evaluate",),
)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": str(REPOSITORY),
    "WANDB_MODE": "offline",
    "HF_HUB_OFFLINE": "1",
}
PATIENCE = 300.0


def settings(run, *overrides, config=CONFIG, segmenter=SEGMENTER):
    return ["--config", str(config), "--segmenter", str(segmenter), "--run", str(run), *overrides]


def launch(stage, arguments, *, num_processes=1):
    """As make does; returns exit code, output and errors."""
    command = [
        sys.executable, "-m", "stages.launch", "--nproc", str(num_processes),
        str(REPOSITORY / "stages" / f"{stage}.py"), *arguments,
    ]  # fmt: skip
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE
    )


@dataclass
class Running:
    """A stage that was started: its processes and what they print."""

    zygote: "Zygote"
    pids: list[int]
    log: Path

    @property
    def output(self):
        return self.log.read_text()

    def signal(self, number):
        for pid in self.pids:
            os.kill(pid, number)

    def wait(self):
        return [self.zygote.ask(wait=pid)["code"] for pid in self.pids]

    def wait_for(self, path):
        """Wait until a file or folder appears."""
        patience = time.monotonic() + PATIENCE
        while not path.exists():
            assert time.monotonic() < patience, f"{path} never came:\n{self.output}"
            time.sleep(0.005)

    def signal_once_there(self, path, number):
        """Wait until a file or folder appears, then send a signal; returns the exit codes."""
        self.wait_for(path)
        self.signal(number)
        return self.wait()


class Zygote:
    """Starts stages without importing everything anew each time."""

    def __init__(self, folder):
        self._folder, self._count = folder, 0
        script = Path(__file__).parent / "zygote.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script)], env={**os.environ, **ENVIRONMENT}, cwd=REPOSITORY,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, stage, arguments, *, num_processes=1, also=None):
        self._count += 1
        log = self._folder / f"{self._count}-{stage}.log"
        log.touch()
        script = str(REPOSITORY / "stages" / f"{stage}.py")
        pids = [
            self.ask(
                script=script,
                argv=list(arguments),
                env={**environment, **(also or {})},
                log=str(log),
            )["pid"]
            for environment in environments(num_processes)
        ]
        return Running(self, pids, log)

    def run(self, stage, arguments, *, num_processes=1):
        """Run a stage to its good end; returns what it printed."""
        running = self.start(stage, arguments, num_processes=num_processes)
        assert running.wait() == [0] * num_processes, running.output
        return running.output

    def fail(self, stage, arguments):
        """Run a stage that is to refuse its input; returns the one sentence."""
        running = self.start(stage, arguments)
        codes, output = running.wait(), running.output
        assert codes == [2], output
        sentences = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(sentences) == 1, output
        assert "Traceback" not in output
        return sentences[0]

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def environments(count):
    if count == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    zygote = Zygote(tmp_path_factory.mktemp("logs"))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A whole run, started as make starts it. Tests read it and never write into it."""
    run = tmp_path_factory.mktemp("pipeline") / "run"
    for stage, *switches in STEPS:
        done = launch(stage, [*switches, *settings(run)])
        assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.fixture
def copy_of_run(finished_run, tmp_path):
    """Make a run of the named parts of the finished one, to be written into."""

    def copy(*parts, name="run"):
        run = tmp_path / name
        run.mkdir()
        for part in parts:
            source = finished_run / part
            if source.is_dir():
                shutil.copytree(source, run / part)
            else:
                shutil.copy(source, run / part)
        return run

    return copy


@pytest.fixture(scope="session")
def weights_of():
    """Return the bytes of a model directory's weights."""

    def read(model):
        return (model / "model.safetensors").read_bytes()

    return read


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def run_settings():
    return settings


@pytest.fixture(scope="session")
def launched():
    return launch
