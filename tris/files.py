"""Putting finished files and folders in place; imports nothing heavy."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from pathlib import Path

_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_OLD = "-old-"


def replace_file(path: Path, text: str) -> None:
    """Write a file; a reader sees the old one or the new one, whole, whoever else writes it."""
    scratch = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with scratch.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def replace_directory(new: Path, target: Path) -> None:
    """Put a finished folder in the place of ``target``, which is never there in part.

    The old one is moved away, the new one moved in, the old one deleted. Between the two moves a
    reader finds nothing for an instant, and one that opens several files meanwhile may get some of
    each. If the process is killed in that instant, or an error keeps the old one from being put
    back, it stays whole as ``.NAME-old-*/old`` beside its place. Trainings put it back by
    `sweep_leftovers`; elsewhere people must move it. Several processes may do so at once: the last
    one stays.
    """
    graves: list[Path] = []
    try:
        while not _is_moved(new, target):
            graves.append(Path(tempfile.mkdtemp(prefix=f".{target.name}{_OLD}", dir=target.parent)))
            with contextlib.suppress(FileNotFoundError):  # another process may have been faster
                target.rename(graves[-1] / "old")
    except BaseException:
        for grave in reversed(graves):
            _restore(grave, target)
            shutil.rmtree(grave)
        raise
    for grave in graves:
        shutil.rmtree(grave)


def sweep_leftovers(directory: Path, names: str) -> None:
    """Remove what killed processes left of folders that they were writing or replacing.

    An old folder that was moved away and has no successor is put back. Nobody may be writing them.

    Args:
        directory: Where the folders are.
        names: Pattern of their names.
    """
    graves = directory.glob(f".{names}{_OLD}*/")
    for grave in sorted(graves, key=lambda grave: grave.stat().st_mtime, reverse=True):
        _restore(grave, directory / grave.name.removeprefix(".").rpartition(_OLD)[0])
        shutil.rmtree(grave)
    for scratch in directory.glob(f".{names}-*/"):
        shutil.rmtree(scratch)


def _is_moved(source: Path, target: Path) -> bool:
    """Rename a folder; say whether its new place was free."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        return False
    return True


def _restore(grave: Path, target: Path) -> None:
    """Put the folder in a grave back, if there is one and no other has its place."""
    if (grave / "old").is_dir():
        _is_moved(grave / "old", target)
