"""The label store: shards of JSON Lines, resumable, with a manifest of what made them.

A folder holds ``settings.json`` (from the start), ``shard-*.jsonl`` (one per process) and
``manifest.json`` (once it is complete). See ``docs/pseudo_labels.md``.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tris.errors import InputError
from tris.folder_lock import live_writers
from tris.pseudo.manifest import (
    LabelSettings,
    Manifest,
    list_differences,
    read_manifest,
    read_settings,
)
from tris.pseudo.records import (
    LabelRecord,
    RecordKey,
    decode_label,
    decode_line,
    read_shard,
)

SETTINGS_NAME = "settings.json"
MANIFEST_NAME = "manifest.json"


class LabelStore:
    """Reads a finished store; it keeps places of records in memory, not the records.

    `open_label_store` makes one.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._shards = list_shards(directory)
        self._places = _find_places(self._shards)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def keys(self) -> Iterator[RecordKey]:
        """Yield data set and ``ref_id`` of every record."""
        return iter(self._places)

    def get(self, dataset: str, referent_id: int) -> UInt8[np.ndarray, "height width"] | None:
        """Return the label of a referent, 0, 1 or 255 per pixel of the photograph.

        Returns:
            None if there is none, or it was dropped as degenerate.
        """
        if (dataset, referent_id) not in self._places:
            return None
        return decode_label(self.record(dataset, referent_id))

    def record(self, dataset: str, referent_id: int) -> LabelRecord:
        """Return the whole record.

        Raises:
            InputError: If there is none.
        """
        place = self._places.get((dataset, referent_id))
        if place is None:
            raise InputError(
                f"{self.directory} holds no label of referent {referent_id} of {dataset}."
            )
        shard, offset = place
        with self._shards[shard].open("rb") as file:
            file.seek(offset)
            return decode_line(file.readline(), source=f"{self._shards[shard]} byte {offset}")


def open_label_store(directory: Path, *, expected: LabelSettings | None = None) -> LabelStore:
    """Open a finished store.

    Args:
        directory: The store.
        expected: What the labels must depend on; None takes them as they are.

    Raises:
        InputError: If there is no store, it is not finished or is damaged, or it is stale: the
            message names every setting that differs.
    """
    manifest = read_store_manifest(directory)
    if expected is not None:
        refuse_stale(directory, manifest.settings, expected)
    store = LabelStore(directory, manifest)
    if len(store) != manifest.num_records:
        raise InputError(
            f"{directory} holds {len(store)} labels, but its manifest counts "
            f"{manifest.num_records}; delete the folder and make the labels again."
        )
    return store


def read_store_manifest(directory: Path) -> Manifest:
    """Return the manifest of a finished store, whose records are not read.

    Raises:
        InputError: If there is no store, or it is not finished.
    """
    settings_path, manifest_path = directory / SETTINGS_NAME, directory / MANIFEST_NAME
    if not settings_path.is_file() and not manifest_path.is_file():
        raise InputError(f"There is no label store at {directory}; make the labels first.")
    if not manifest_path.is_file():
        raise InputError(f"The labels in {directory} are not finished; make them again to resume.")
    return read_manifest(manifest_path)


def is_label_store_finished(directory: Path, wanted: LabelSettings) -> bool:
    """Return whether there is a finished store of these settings.

    Raises:
        InputError: If there is one of other settings (each difference is named).
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        return False
    refuse_stale(directory, read_manifest(path).settings, wanted)
    return True


def discard_stale_store(directory: Path, wanted: LabelSettings) -> list[str]:
    """Delete a store, finished or not, that was made with other settings.

    Returns:
        The differences; empty if the store agrees or is not there (then nothing is deleted).

    Raises:
        InputError: If a process is writing it.
    """
    path = directory / SETTINGS_NAME
    if not path.is_file():
        return []
    differences = list_differences(read_settings(path), wanted)
    if differences:
        for _, writer in live_writers(directory):
            raise InputError(f"Process {writer.pid} on {writer.host} is writing {directory}.")
        shutil.rmtree(directory)
    return differences


def list_shards(directory: Path) -> list[Path]:
    """Return the shard files, of any number of processes, in a fixed order."""
    return sorted(directory.glob("shard-*.jsonl"))


def refuse_stale(directory: Path, found: LabelSettings, wanted: LabelSettings) -> None:
    """Raise an `InputError` that names every setting that differs, if one does."""
    differences = list_differences(found, wanted)
    if differences:
        raise InputError(
            f"The labels in {directory} were made with other weights or settings "
            f"({'; '.join(differences)}); delete the folder to make them anew, or give the "
            "settings that made them."
        )


def _find_places(shards: list[Path]) -> dict[RecordKey, tuple[int, int]]:
    return {
        record.key: (number, offset)
        for number, shard in enumerate(shards)
        for offset, record in read_shard(shard)
    }
