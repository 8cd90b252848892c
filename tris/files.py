"""Putting finished folders in place; imports nothing heavy."""

import shutil
import tempfile
from pathlib import Path


def replace_directory(new: Path, target: Path) -> None:
    """Rename a finished folder over ``target``; a reader sees the old or the new one, whole."""
    if target.exists():
        graveyard = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        target.rename(graveyard / "old")
        new.rename(target)
        shutil.rmtree(graveyard)
    else:
        new.rename(target)
