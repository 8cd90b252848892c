"""Who is writing a folder: one lock file per process, so that two jobs never mix."""

import contextlib
import errno
import json
import os
import socket
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from tris.errors import InputError

_MOMENT = 0.01  # seconds
_PATIENCE = 2.0  # seconds
_UNSUPPORTED = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""How file systems answer that have no hard links or no modes: exFAT, many network mounts."""


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
            process = psutil.Process(self.pid)
            has_ended = process.status() == psutil.STATUS_ZOMBIE
            started = float(process.create_time())
        except psutil.NoSuchProcess:
            return False
        return not has_ended and abs(started - self.started) < 1


class FolderLock:
    """Held while a process writes its share of a folder.

    Processes of one job (equal ``num_processes``, different ``process_index``) go together; any
    other writer is refused. The lock of a process that was killed is taken over.

    Raises:
        InputError: If another job is writing.
    """

    def __init__(self, directory: Path, *, process_index: int, num_processes: int) -> None:
        self._writer = _this_process(process_index, num_processes)
        self._path = directory / f"lock-{process_index:05d}-of-{num_processes:05d}.json"
        holder = _take(self._path, self._writer)
        if holder is not None:
            holders = [writer for _, writer in live_writers(directory)]
            _refuse(directory, holders or [holder])
        try:
            self._refuse_others(directory)
        except InputError:
            self.release()
            raise

    def release(self) -> None:
        """Let others write; a lock that is another's by now stays."""
        if _read(self._path) == self._writer:
            self._path.unlink(missing_ok=True)

    def _refuse_others(self, directory: Path) -> None:
        others = [
            writer
            for path, writer in live_writers(directory)
            if path != self._path and writer.num_processes != self._writer.num_processes
        ]
        if others:
            _refuse(directory, others)


def live_writers(directory: Path) -> list[tuple[Path, Writer]]:
    """Return the lock files of processes that still write; those of dead ones are removed."""
    writers = []
    for path in sorted(directory.glob("lock-*.json")):
        writer = _read(path)
        if writer is not None and writer.is_alive:
            writers.append((path, writer))
        elif writer is not None:
            _remove(path, writer)
    return writers


def _this_process(process_index: int = 0, num_processes: int = 1) -> Writer:
    return Writer(
        pid=os.getpid(),
        host=socket.gethostname(),
        started=psutil.Process().create_time(),
        process_index=process_index,
        num_processes=num_processes,
    )


def _take(path: Path, writer: Writer) -> Writer | None:
    """Put a lock in place; return who holds it, or None where it is the writer's now."""
    while not _put(path, writer):
        holder = _read(path)
        if holder is not None and holder.is_alive:
            return holder
        if holder is not None:
            _remove(path, holder)
    return None


def _put(path: Path, writer: Writer) -> bool:
    # A finished file is linked into place: it exists whole or not at all, and only once.
    text = json.dumps(asdict(writer))
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-") as scratch:
        scratch.write(text)
        scratch.flush()
        try:
            os.fchmod(scratch.fileno(), 0o644)  # others are to read who it is
            os.link(scratch.name, path)
        except FileExistsError:
            # NFS may say so of a link that it made, where its first answer was lost.
            with contextlib.suppress(FileNotFoundError):
                return path.samefile(scratch.name)
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return _create(path, text)
    return True


def _create(path: Path, text: str) -> bool:
    """Make a lock without a hard link; a reader may see it half-written for an instant."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
    except BaseException:
        path.unlink()
        raise
    return True


def _remove(path: Path, dead: Writer) -> None:
    """Remove the lock of a dead process, never one that came in its place.

    Only who holds the right to, a lock named after the dead process, removes it: so what is read
    then is what is removed.
    """
    right = path.with_name(f".{path.name}.{dead.pid}-{dead.started}")
    while _take(right, _this_process()) is not None:
        time.sleep(_MOMENT)
    try:
        if _read(path) == dead:
            path.unlink()
    finally:
        right.unlink()


def _refuse(directory: Path, holders: list[Writer]) -> NoReturn:
    pids: dict[str, list[str]] = {}
    for holder in holders:
        pids.setdefault(holder.host, []).append(str(holder.pid))
    names = "; ".join(f"{', '.join(numbers)} on {host}" for host, numbers in pids.items())
    process, are, it, it_is = (
        ("process", "is", "it", "it is")
        if len(holders) == 1
        else ("processes", "are", "them", "they are")
    )
    raise InputError(
        f"{process} {names} {are} writing {directory}; wait for {it} or stop {it}, "
        f"or delete {directory}/lock-*.json if you know that {it_is} gone."
    )


def _read(path: Path) -> Writer | None:
    """Return who holds a lock; one that may be half-written is given time to become whole."""
    patience = time.monotonic() + _PATIENCE
    while True:
        try:
            return Writer(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            if time.monotonic() > patience:
                raise InputError(f"{path} is no lock file; delete it.") from error
        time.sleep(_MOMENT)
