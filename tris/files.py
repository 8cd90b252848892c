"""Putting finished folders in place; imports nothing heavy."""

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path

_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)


def replace_directory(new: Path, target: Path) -> None:
    """Rename a finished folder over ``target``; a reader sees the old or the new one, whole.

    Several processes may do so at once: the last one stays.
    """
    while True:
        try:
            new.rename(target)
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
            _remove(target)
        else:
            return


def _remove(target: Path) -> None:
    """Move a folder out of the way, then delete it; another process may have been faster."""
    graveyard = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    with contextlib.suppress(FileNotFoundError):
        target.rename(graveyard / "old")
    shutil.rmtree(graveyard)
