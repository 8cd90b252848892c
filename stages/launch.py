"""Start a stage on one or more processes; a failing stage's exit code becomes this one's."""

import argparse
import os
import subprocess
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def main() -> None:
    """Run ``stages.launch [--nproc N] SCRIPT ARGUMENTS``.

    One process is started as it is; several through torch's launcher, on GPUs or CPUs alike
    (``accelerate launch`` would quietly start a single one on a machine without GPU).
    """
    parser = argparse.ArgumentParser(description=main.__doc__, add_help=False)
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("script")
    arguments, rest = parser.parse_known_args()
    if arguments.nproc < 1:
        parser.error(f"NPROC must be at least 1, not {arguments.nproc}.")
    command = [arguments.script, *rest]
    if arguments.nproc == 1:
        sys.exit(_run_alone(command))
    sys.exit(_run_together(command, num_processes=arguments.nproc))


def _run_alone(command: list[str]) -> int:
    process = subprocess.Popen([sys.executable, *command])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _run_together(command: list[str], *, num_processes: int) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=num_processes, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0,
    )  # fmt: skip
    try:
        elastic_launch(config, entrypoint=sys.executable)(*command)
    except ChildFailedError as error:
        return max(1, error.get_first_failure()[1].exitcode)
    return 0


if __name__ == "__main__":
    main()
