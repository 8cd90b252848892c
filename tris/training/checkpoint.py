"""Checkpoints that are whole or absent, and the latest few of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from tris.errors import InputError
from tris.model_directory import replace_directory

_PREFIX = "step-"


class CheckpointStore:
    """A folder of checkpoints ``step-00000400``; each is renamed into place when complete.

    A checkpoint holds ``shared.pt`` (written by the main process), one ``process-N.pt`` each, and
    ``progress.json``. Nothing but tensors and plain containers is stored or read.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def begin(self, step: int) -> Path:
        """Return the scratch folder that all processes write into."""
        scratch = self.directory / f".{_PREFIX}{step:08d}.part"
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    def finish(self, step: int, progress: dict[str, Any]) -> Path:
        """Rename the scratch folder into place and remove old checkpoints (main process)."""
        scratch = self.directory / f".{_PREFIX}{step:08d}.part"
        (scratch / "progress.json").write_text(json.dumps(progress, indent=2) + "\n")
        final = self.directory / f"{_PREFIX}{step:08d}"
        replace_directory(scratch, final)
        for old in self.list()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def list(self) -> list[Path]:
        """Return whole checkpoints, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(self.directory.glob(f"{_PREFIX}*"))

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint."""
        found = self.list()
        return found[-1] if found else None

    def clear(self) -> None:
        """Remove every checkpoint and every leftover."""
        shutil.rmtree(self.directory, ignore_errors=True)


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's ``progress.json``.

    Raises:
        InputError: If it is damaged.
    """
    try:
        progress: dict[str, Any] = json.loads((checkpoint / "progress.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"The checkpoint {checkpoint} is damaged ({error}); remove it.") from error
    return progress


def read_tensors(path: Path) -> dict[str, Any]:
    """Return what `torch.save` wrote, refusing everything but tensors and plain containers.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove this checkpoint.") from error
    return state
