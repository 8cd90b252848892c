"""Checkpoints that are whole or absent, and the latest few of them."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from tris.errors import InputError, first_line
from tris.files import replace_directory, sweep_leftovers

CHECKPOINTS = "checkpoints"
"""Name of the folder inside ``RUN/<job>``."""

_PREFIX = "step-"


class CheckpointStore:
    """A folder of checkpoints ``step-00000400``; each is renamed into place when complete.

    A checkpoint holds ``shared.pt`` (written by the main process), one ``process-N.pt`` each, and
    ``progress.json``. Nothing but tensors and plain containers is stored or read.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        """Name the folder; nothing is written yet.

        Raises:
            InputError: If no checkpoint may be kept.
        """
        if keep < 1:
            raise InputError(f"keep_checkpoints must be at least 1, not {keep}.")
        self.directory = directory
        self.keep = keep

    def begin(self, step: int) -> Path:
        """Return the scratch folder that all processes write into."""
        scratch = self._scratch(step)
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch

    def finish(self, step: int, progress: dict[str, Any]) -> Path:
        """Rename the scratch folder into place and remove old checkpoints (main process)."""
        scratch = self._scratch(step)
        (scratch / "progress.json").write_text(json.dumps(progress, indent=2) + "\n")
        final = self.directory / f"{_PREFIX}{step:08d}"
        replace_directory(scratch, final)
        for old in self.list()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def list(self) -> list[Path]:
        """Return whole checkpoints, oldest first."""
        return sorted(self.directory.glob(f"{_PREFIX}*"))

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint."""
        found = self.list()
        return found[-1] if found else None

    def sweep(self) -> None:
        """Remove what a killed process left half-written (main process); nobody may be writing."""
        sweep_leftovers(self.directory, f"{_PREFIX}*")
        for torn in self.directory.glob(f".{_PREFIX}*"):
            shutil.rmtree(torn)

    def clear(self) -> None:
        """Remove every checkpoint and every leftover."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _scratch(self, step: int) -> Path:
        return self.directory / f".{_PREFIX}{step:08d}.part"


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


def write_tensors(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain containers.

    Raises:
        InputError: If the disk is full or fails, or the folder is gone; the file is not there then.
    """
    try:
        torch.save(state, path)
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(next(each for each in path.parents if each.is_dir())).free
        path.unlink(missing_ok=True)
        raise InputError(
            f"The checkpoint {path} cannot be written ({first_line(error)}; {free / 1e6:.1f} MB "
            "are free there): free some space if it is full, and start again; the checkpoint "
            "before it is whole."
        ) from error


def read_tensors(path: Path) -> dict[str, Any]:
    """Return what `write_tensors` wrote, refusing everything but tensors and plain containers.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} cannot be read ({first_line(error)}): remove {path.parent}."
        ) from error
    return state
