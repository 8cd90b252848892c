"""Writing a label store: one shard per process, resumable after a kill at any place."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tris.errors import InputError
from tris.folder_lock import FolderLock, live_writers
from tris.pseudo.manifest import (
    LabelSettings,
    Manifest,
    read_settings,
    software_versions,
    write_json,
)
from tris.pseudo.records import LabelRecord, RecordKey, encode_line, read_shard
from tris.pseudo.store import MANIFEST_NAME, SETTINGS_NAME, list_shards, refuse_stale


class LabelStoreWriter:
    """Writes one process's share of a store; a context manager.

    Opening it resumes: records of every shard, of any earlier number of processes, are done.

    Args:
        directory: The store; made where it is not there.
        settings: What the labels depend on.
        process_index: Number of this process, from 0.
        num_processes: Of the job.

    Raises:
        InputError: If the folder holds labels of other settings, or another job is writing it.
    """

    def __init__(
        self,
        directory: Path,
        settings: LabelSettings,
        *,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._manifest = directory / MANIFEST_NAME
        self._lock = FolderLock(directory, process_index=process_index, num_processes=num_processes)
        try:
            _settle_settings(directory, settings)
            shard = directory / f"shard-{process_index:05d}-of-{num_processes:05d}.jsonl"
            _cut_torn_line(shard)
            self.done: set[RecordKey] = {record.key for record in _read_all(directory)}
            self._file = shard.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise

    def write(self, record: LabelRecord) -> None:
        """Append a record: one system call, so that a kill tears at most this line.

        A finished store is unfinished from here on, until `finish_label_store`.

        Raises:
            InputError: If the referent has a label already.
        """
        if record.key in self.done:
            raise InputError(f"{record.key} has a label already; skip what is in `done`.")
        self._manifest.unlink(missing_ok=True)
        line = encode_line(record)
        written = self._file.write(line)
        while written < len(line):
            written += self._file.write(line[written:])
        self.done.add(record.key)

    def close(self) -> None:
        """Put everything on the disk and let others write."""
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._lock.release()

    def __enter__(self) -> "LabelStoreWriter":
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def finish_label_store(directory: Path, *, expected_keys: set[RecordKey]) -> Manifest:
    """Check that a store is whole and write its manifest; one process does, after all closed.

    Raises:
        InputError: If a process is still writing, or referents are missing, doubled or unknown.
    """
    for _, writer in live_writers(directory):
        raise InputError(f"Process {writer.pid} on {writer.host} still writes {directory}.")
    for shard in list_shards(directory):
        _cut_torn_line(shard)
    seen: Counter[RecordKey] = Counter()
    counts: Counter[str] = Counter({"sound": 0, "empty": 0, "whole": 0, "dropped": 0})
    for record in _read_all(directory):
        seen[record.key] += 1
        counts[record.degeneracy] += 1
        counts["dropped"] += record.label is None
    _check_keys(directory, seen, expected_keys)
    manifest = Manifest(
        settings=read_settings(directory / SETTINGS_NAME),
        num_records=len(seen),
        counts=dict(counts),
        software=software_versions(),
    )
    write_json(directory / MANIFEST_NAME, manifest)
    return manifest


def _settle_settings(directory: Path, settings: LabelSettings) -> None:
    path = directory / SETTINGS_NAME
    # Shards are looked for first: another process of this job writes settings before its shard.
    has_shards = bool(list_shards(directory))
    if path.is_file():
        refuse_stale(directory, read_settings(path), settings)
    elif has_shards:
        raise InputError(f"{directory} holds label shards without settings; delete it.")
    else:
        write_json(path, settings)


def _cut_torn_line(shard: Path) -> None:
    if not shard.is_file():
        return
    whole = sum(len(line) for line in _lines(shard) if line.endswith(b"\n"))
    if whole != shard.stat().st_size:
        os.truncate(shard, whole)


def _lines(shard: Path) -> Iterator[bytes]:
    with shard.open("rb") as file:
        yield from file


def _read_all(directory: Path) -> Iterator[LabelRecord]:
    for shard in list_shards(directory):
        for _, record in read_shard(shard):
            yield record


def _check_keys(directory: Path, seen: Counter[RecordKey], expected: set[RecordKey]) -> None:
    doubled = sorted(key for key, count in seen.items() if count > 1)
    for problem, keys in (
        ("are missing from", sorted(expected - seen.keys())),
        ("are strangers in", sorted(seen.keys() - expected)),
        ("have two labels in", doubled),
    ):
        if keys:
            raise InputError(
                f"{len(keys)} referents {problem} {directory} (the first: {keys[:3]}); run the "
                "labelling again, or delete the folder if it came from another data set."
            )
