"""Who is writing a label store: one lock file per process, so that two jobs never mix."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tris.errors import InputError


@dataclass(frozen=True)
class Writer:
    """One writing process.

    Attributes:
        pid: Process id on its host.
        host: Name of the machine.
        started: When the process began (seconds since 1970), which tells a reused pid apart.
        process_index: Which share of its job it has.
        num_processes: Of its job.
    """

    pid: int
    host: str
    started: float
    process_index: int
    num_processes: int

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; processes of other machines are believed to."""
        if self.host != socket.gethostname():
            return True
        try:
            started = float(psutil.Process(self.pid).create_time())
        except psutil.NoSuchProcess:
            return False
        return abs(started - self.started) < 1


class StoreLock:
    """Held while a process writes its shard.

    Processes of one job (equal ``num_processes``, different ``process_index``) go together; any
    other writer is refused. The lock of a process that was killed is taken over.

    Raises:
        InputError: If another job is writing.
    """

    def __init__(self, directory: Path, *, process_index: int, num_processes: int) -> None:
        self._writer = Writer(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=psutil.Process().create_time(),
            process_index=process_index,
            num_processes=num_processes,
        )
        self._path = directory / f"lock-{process_index:05d}-of-{num_processes:05d}.json"
        self._acquire()
        try:
            self._refuse_others(directory)
        except InputError:
            self.release()
            raise

    def release(self) -> None:
        """Let others write."""
        self._path.unlink(missing_ok=True)

    def _acquire(self) -> None:
        # A finished file is linked into place: it exists whole or not at all, and only once.
        scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        scratch.write_text(json.dumps(asdict(self._writer)))
        try:
            for _ in range(2):
                try:
                    os.link(scratch, self._path)
                    return
                except FileExistsError:
                    _remove_if_stale(self._path)
            _refuse(self._path)
        finally:
            scratch.unlink()

    def _refuse_others(self, directory: Path) -> None:
        for path, writer in live_writers(directory):
            if path != self._path and writer.num_processes != self._writer.num_processes:
                _refuse(path)


def live_writers(directory: Path) -> list[tuple[Path, Writer]]:
    """Return the lock files of processes that still write; those of dead ones are removed."""
    writers = []
    for path in sorted(directory.glob("lock-*.json")):
        writer = _read(path)
        if writer is not None and writer.is_alive:
            writers.append((path, writer))
        elif writer is not None:
            path.unlink(missing_ok=True)
    return writers


def _remove_if_stale(path: Path) -> None:
    writer = _read(path)
    if writer is not None and not writer.is_alive:
        path.unlink(missing_ok=True)


def _refuse(path: Path) -> None:
    writer = _read(path)
    who = "another process" if writer is None else f"process {writer.pid} on {writer.host}"
    raise InputError(
        f"{who} is writing the label store {path.parent}; wait for it or stop it, or delete "
        f"{path.name} if you know that it is gone."
    )


def _read(path: Path) -> Writer | None:
    try:
        return Writer(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no lock file of a label store; delete it.") from error
