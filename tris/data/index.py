"""The index: what every data set becomes, memory-mapped; one row = one referent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tris.data.index_writer import IndexWriter
from tris.data.manifest import Manifest, SplitFacts, read_manifest
from tris.data.referent import SCHEMA, Referent, from_row
from tris.errors import InputError

__all__ = ["Index", "IndexWriter", "Manifest", "Referent", "SplitFacts", "open_index"]


class Index:
    """One split of an index.

    The file is memory-mapped: opening reads no row, and all processes share the same pages.
    Pickling carries the path alone, so handing an index to a worker costs nothing.

    Attributes:
        directory: Of the index.
        split: Its name.
        manifest: What the index says of itself.
    """

    def __init__(self, directory: Path, split: str, manifest: Manifest) -> None:
        """Use `open_index`."""
        self.directory, self.split, self.manifest = directory, split, manifest
        self._image_folder = directory / manifest.images
        self._batches = _map_batches(directory / f"{split}.arrow")
        self._batch_starts = _starts([batch.num_rows for batch in self._batches])
        self._expression_starts = _starts(_expressions_per_row(self._batches))
        if len(self) != self.facts.referents or self.num_expressions != self.facts.expressions:
            raise InputError(
                f"{directory / f'{split}.arrow'} holds {len(self)} referents, its manifest says "
                f"{self.facts.referents}: prepare the data set again."
            )

    def __len__(self) -> int:
        """Return the number of referents."""
        return int(self._batch_starts[-1])

    def __getitem__(self, row: int) -> Referent:
        """Return one referent; negative rows count from the end."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        batch = int(np.searchsorted(self._batch_starts, row, side="right")) - 1
        position = row - int(self._batch_starts[batch])
        return from_row(self._batches[batch].slice(position, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Referent]:
        """Go through all referents, a batch at a time."""
        for batch in self._batches:
            for row in batch.to_pylist():
                yield from_row(row)

    @property
    def facts(self) -> SplitFacts:
        """Counts of this split."""
        return self.manifest.splits[self.split]

    @property
    def num_expressions(self) -> int:
        """Number of sentences in the split."""
        return int(self._expression_starts[-1])

    @property
    def has_masks(self) -> bool:
        """Whether every referent carries a mask."""
        return self.facts.masks == len(self)

    def expression_row(self, expression: int) -> tuple[int, int]:
        """Return the row of a running expression number, and its position within that referent."""
        if not 0 <= expression < self.num_expressions:
            raise IndexError(f"expression {expression} of {self.num_expressions}")
        row = int(np.searchsorted(self._expression_starts, expression, side="right")) - 1
        return row, expression - int(self._expression_starts[row])

    def first_expression(self, row: int) -> int:
        """Return the running number of a referent's first sentence."""
        return int(self._expression_starts[row])

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one whole column as a `pyarrow.ChunkedArray`, without making a referent."""
        return pa.Table.from_batches(self._batches, SCHEMA).column(name)

    def image_path(self, referent: Referent) -> Path:
        """Return where the photograph lies."""
        return self._image_folder / referent.file_name

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path alone."""
        return Index, (self.directory, self.split, self.manifest)


def open_index(directory: Path | str, split: str) -> Index:
    """Open one split.

    Raises:
        InputError: If there is no such index or split (known ones are named), or its files are
            damaged.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    if split not in manifest.splits:
        raise InputError(
            f"{directory} has no split {split!r}; it has {', '.join(sorted(manifest.splits))}."
        )
    return Index(directory, split, manifest)


def expression_types(index: Index) -> dict[int, str]:
    """Return the type of every expression that has one."""
    return {
        expression_id: kind
        for referent in index
        for expression_id, kind in zip(
            referent.expression_ids, referent.expression_types, strict=False
        )
        if kind
    }


def expression_kinds(index: Index) -> dict[int, str]:
    """Return `expression_types`, and how much is meant by expressions without one.

    That is single, multi or none, in splits where some mean several objects or nothing; where each
    means one object there is nothing to tell apart.
    """
    types = expression_types(index)
    if not (index.facts.multi_target or index.facts.no_target):
        return types
    kinds = {
        expression_id: _kind_of(referent)
        for referent in index
        for expression_id in referent.expression_ids
    }
    return kinds | types


def _kind_of(referent: Referent) -> str:
    if referent.is_no_target:
        return "none"
    return "multi" if len(referent.annotation_ids) > 1 else "single"


def _map_batches(path: Path) -> list[Any]:
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            if not stream.schema.equals(SCHEMA):
                raise InputError(f"{path} has foreign columns: prepare the data set again.")
            return list(stream)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: prepare the data set again.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): prepare the data set again.") from error


def _expressions_per_row(batches: list[Any]) -> list[int] | np.ndarray:
    """Read list lengths off Arrow's offsets: no Python object per row, and no pandas."""
    lengths = [np.diff(_list_offsets(batch.column("expression_ids"))) for batch in batches]
    return np.concatenate(lengths) if lengths else []


def _list_offsets(column: pa.ListArray) -> np.ndarray:
    """Return the buffer itself; Arrow's ``to_numpy`` would load pandas, 45 MB."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return offsets[column.offset : column.offset + len(column) + 1]


def _starts(lengths: list[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
