"""Writing an index: streamed, and in place only when it is whole."""

import os
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from tris.data.index_counts import Counts
from tris.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    SplitFacts,
    digest_sources,
    read_manifest,
    write_manifest,
)
from tris.data.referent import SCHEMA, Referent, to_row
from tris.errors import InputError, shorten
from tris.files import replace_directory

ROWS_PER_BATCH = 512


class IndexWriter:
    """Writes referents as they come; memory does not grow with them.

    A context manager: the index appears under its name when the block ends without an error, and
    an older index of that name stays whole until then.

    Attributes:
        skipped_images: For the manifest; fill while writing.
        left_out: For the manifest; fill while writing.
        warnings: For the manifest; fill while writing.
        overlaps: For the manifest; fill while writing.

    Raises:
        InputError: If ``directory`` exists and is no index, or holds the images.
    """

    def __init__(
        self,
        directory: Path,
        *,
        dataset: str,
        images: Path,
        split_by: str = "",
        sources: Collection[Path] = (),
        training_splits: Collection[str] = ("train",),
        keep_training_masks: bool = True,
        options: dict[str, str] | None = None,
    ) -> None:
        """Say what will be written.

        Args:
            directory: The index to make; an older index there is replaced.
            dataset: Name of the data set.
            images: The folder that ``Referent.file_name`` starts at.
            split_by: Who made the splits.
            sources: Official files that are read.
            training_splits: Splits that the data set trains on.
            keep_training_masks: False = drop masks and boxes of those splits.
            options: Settings to note in the manifest.
        """
        self.directory = Path(directory).resolve()
        refuse_to_replace(self.directory, holding=(images, *sources))
        self.skipped_images: dict[str, str] = {}
        self.left_out: list[str] = []
        self.warnings: list[str] = []
        self.overlaps: dict[str, list[str]] = {}
        self._dataset, self._split_by, self._images = dataset, split_by, images
        self._sources, self._options = tuple(sources), dict(options or {})
        self._training_splits = frozenset(training_splits)
        self._keep_training_masks = keep_training_masks
        self._splits: dict[str, _SplitWriter] = {}
        self._total = Counts()
        self._seen: set[int] = set()

    def __enter__(self) -> "IndexWriter":
        parent = self.directory.parent
        parent.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix=f".{self.directory.name}-", dir=parent))
        return self

    def add(self, split: str, referent: Referent) -> None:
        """Write one referent.

        Raises:
            InputError: If it has no sentence, lists of different lengths, a mask of another size
                than its photograph, or text that is no Unicode; or if the split's name is no
                plain file name.
        """
        if split not in self._splits:
            if not re.fullmatch(r"\w[\w.+-]{,49}", split):
                raise InputError(
                    f"{shorten(split)} cannot be a split: use up to 50 letters, digits, '-' and "
                    "'_'."
                )
            self._splits[split] = _SplitWriter(self._scratch / f"{split}.arrow")
        if not self._keep_training_masks and split in self._training_splits:
            referent = replace(referent, mask=None, boxes=())
        _check(referent)
        self._splits[split].add(referent)
        if referent.referent_id not in self._seen:
            self._seen.add(referent.referent_id)
            self._total.add(referent)

    def total(self) -> SplitFacts:
        """Return what was written so far, each referent once although it may be in two splits."""
        return self._total.facts()

    def facts(self) -> dict[str, SplitFacts]:
        """Return what was written so far, by split."""
        return {
            split: writer.counts.facts(
                is_training=split in self._training_splits,
                masks_left_out=not self._keep_training_masks and split in self._training_splits,
            )
            for split, writer in self._splits.items()
        }

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for writer in self._splits.values():
                writer.close()
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _finish(self) -> None:
        if not self._splits:
            raise InputError(f"Nothing was written to {self.directory}: no referent is left.")
        sources = [str(path) for path in self._sources]
        manifest = Manifest(
            dataset=self._dataset,
            split_by=self._split_by,
            images=_portable(self._images, self.directory),
            splits=self.facts(),
            sources=sources,
            source_digests=digest_sources(sources),
            skipped_images=self.skipped_images,
            left_out=self.left_out,
            warnings=self.warnings,
            overlaps=self.overlaps,
            options=self._options,
        )
        write_manifest(manifest, self._scratch)
        self._scratch.chmod(0o755)
        replace_directory(self._scratch, self.directory)


class _SplitWriter:
    """One Arrow stream and its counts."""

    def __init__(self, path: Path) -> None:
        self.counts = Counts()
        self._rows: list[dict[str, Any]] = []
        self._sink = pa.OSFile(str(path), "wb")
        self._stream = pa.ipc.new_stream(self._sink, SCHEMA)

    def add(self, referent: Referent) -> None:
        self.counts.add(referent)
        self._rows.append(to_row(referent))
        if len(self._rows) == ROWS_PER_BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._stream.close()
        self._sink.close()

    def _flush(self) -> None:
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._rows, SCHEMA))
            self._rows = []


def refuse_to_replace(directory: Path, *, holding: Collection[Path]) -> None:
    """Stop before a folder that is no index, or that holds other files, would be replaced.

    Raises:
        InputError: If ``directory`` is such a folder.
    """
    for path in holding:
        if path.resolve().is_relative_to(directory.resolve()):
            raise InputError(f"{directory} holds {path}, which is read: choose another --out.")
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not (directory / MANIFEST_NAME).is_file():
        raise InputError(f"{directory} exists and is no index: choose another --out.")
    read_manifest(directory)


def _check(referent: Referent) -> None:
    name = f"Referent {shorten(referent.referent_id)}"
    lengths = {
        len(referent.expression_ids),
        len(referent.sentences),
        len(referent.raw_sentences),
        len(referent.expression_types) or len(referent.sentences),
    }
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"{name} needs one id, sentence and raw sentence each, at least one.")
    if referent.mask is not None and referent.mask["size"] != [referent.height, referent.width]:
        raise InputError(
            f"{name} has a mask of size {referent.mask['size']}, but its photograph is "
            f"{[referent.height, referent.width]} (height, width)."
        )
    ids = (referent.referent_id, *referent.expression_ids, *referent.annotation_ids)
    for key in (*ids, referent.image_id, referent.coco_id):
        if type(key) is not int or not -(2**63) <= key < 2**63:
            raise InputError(f"{name} has an id that is no integer of 64 bits: {shorten(key)}.")
    for text in (*referent.sentences, *referent.raw_sentences, *_labels(referent)):
        if _SURROGATE.search(text):
            raise InputError(f"{name} has a text that is no Unicode: {shorten(text)}.")


def _labels(referent: Referent) -> tuple[str, ...]:
    """Return every other text of a row."""
    texts = (referent.file_name, referent.category, referent.group, referent.source_id)
    return (*texts, *referent.expression_types)


_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: JSON can say it, UTF-8 and Arrow cannot."""


def _portable(images: Path, directory: Path) -> str:
    """Return a path relative to the index where both lie in one folder, else the whole path."""
    images, home = images.resolve(), directory.resolve().parent
    if images.is_relative_to(home):
        return os.path.relpath(images, directory.resolve())
    return str(images)
