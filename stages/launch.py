"""Start a stage on one or more processes; a failing stage's exit code becomes this one's."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

MOST_PER_CORE = 8
"""Of the processes of ``--per-core``, for each holds the networks; workers take further cores."""

GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""One is there where a GPU is; asking torch would take seconds."""

_GRACE = 30.0
_POLL = 0.1


def main() -> None:
    """Run ``stages.launch [--nproc N | --per-core] SCRIPT ARGUMENTS``.

    Several processes find each other as those of torchrun do, on GPUs or CPUs alike
    (``accelerate launch`` would quietly start a single one on a machine without GPU). For several
    machines start the same scripts with torchrun. ``--per-core`` is for stages that give the same
    results whatever the number of processes: one process for each core, a single one where there is
    a GPU.
    """
    parser = argparse.ArgumentParser(description=main.__doc__, add_help=False)
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--per-core", action="store_true")
    parser.add_argument("script")
    arguments, rest = parser.parse_known_args()
    if arguments.nproc < 1:
        parser.error(f"NPROC must be at least 1, not {arguments.nproc}.")
    command = [sys.executable, arguments.script, *rest]
    count = count_per_core() if arguments.per_core else arguments.nproc
    sys.exit(Processes(command, count).wait())


class Processes:
    """A stage's processes, which end together."""

    def __init__(self, command: list[str], count: int) -> None:
        """Start them; signals to this process are passed on."""
        self._stopped_by: int | None = None
        self._started = [subprocess.Popen(command, env=env) for env in environments(count)]
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)

    def wait(self) -> int:
        """Return the first failure's exit code, or 0; the others are ended when one fails."""
        while True:
            codes = [process.poll() for process in self._started]
            failures = [code for code in codes if code]
            if failures:
                if self._stopped_by is None:
                    self._send(signal.SIGTERM)
                self._end()
                return self._explain(failures[0])
            if all(code == 0 for code in codes):
                return 0
            time.sleep(_POLL)

    def _explain(self, code: int) -> int:
        """Return what a shell would report; say so where the process could not."""
        if code > 0:
            return code
        if self._stopped_by is None:
            name = signal.Signals(-code).name
            print(f"error: a process of this stage was ended by {name}.", file=sys.stderr)
        return 128 - code

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Hand a signal to the stage; Ctrl-C reaches it from the terminal, so not twice."""
        first, self._stopped_by = self._stopped_by is None, number
        if number != signal.SIGINT or not sys.stdin.isatty() or not first:
            self._send(signal.Signals(number))

    def _send(self, number: signal.Signals) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(number)

    def _end(self) -> None:
        """Wait for the others a while, then kill them: they may hang in a collective."""
        patience = time.monotonic() + (_GRACE if self._stopped_by is not None else 2.0)
        while time.monotonic() < patience and any(each.poll() is None for each in self._started):
            time.sleep(_POLL)
        self._send(signal.SIGKILL)
        for process in self._started:
            process.wait()


def count_per_core() -> int:
    """Return the processes of ``--per-core``."""
    if any(device.exists() for device in GPU_DEVICES):
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_PER_CORE)


def environments(count: int) -> list[dict[str, str]]:
    """Return each process's environment: torchrun's variables where there are several."""
    if count == 1:
        return [dict(os.environ)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    shared = {
        "OMP_NUM_THREADS": threads, **os.environ, "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
    }  # fmt: skip
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


if __name__ == "__main__":
    main()
