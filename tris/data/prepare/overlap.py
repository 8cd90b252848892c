"""Photographs of one index's test splits that another index trains on."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from tris.data.index import Index, open_index
from tris.data.manifest import read_manifest
from tris.data.referent import Referent

_COCO_NAME = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})\b")


def photograph_key(file_name: str, coco_id: int) -> str:
    """Return what two indexes call the same photograph: COCO's number, else the file name."""
    match = _COCO_NAME.match(PurePosixPath(file_name).name)
    number = coco_id or (int(match[1]) if match else 0)
    return str(number) if number else file_name


class Overlaps:
    """Compares an index that is being written with others, in both directions."""

    def __init__(self, others: dict[str, tuple[set[str], set[str]]]) -> None:
        """Use `of_indexes`; the sets are training and other photographs."""
        self._others = others
        self._splits: dict[str, set[str]] = {}

    @classmethod
    def of_indexes(cls, directories: Sequence[Path]) -> "Overlaps":
        """Read which photographs other indexes hold.

        Raises:
            InputError: If one of them is no index.
        """
        others = {}
        for directory in directories:
            training: set[str] = set()
            held_out: set[str] = set()
            for split, facts in read_manifest(directory).splits.items():
                keys = _keys(open_index(directory, split))
                (training if facts.is_training else held_out).update(keys)
            others[str(directory)] = (training, held_out)
        return cls(others)

    def add(self, split: str, referent: Referent) -> None:
        """Note a photograph of the index that is being written."""
        if self._others:
            key = photograph_key(referent.file_name, referent.coco_id)
            self._splits.setdefault(split, set()).add(key)

    def found(self, training_splits: Iterable[str]) -> dict[str, list[str]]:
        """Return the shared photographs by what was compared; none shared = an empty list."""
        shared: dict[str, list[str]] = {}
        for name, (training, held_out) in self._others.items():
            for split, keys in self._splits.items():
                if split in training_splits:
                    what, common = f"{split} and the held-out splits of {name}", keys & held_out
                else:
                    what, common = f"{split} and the training split of {name}", keys & training
                shared[what] = sorted(common, key=lambda key: (len(key), key))
        return shared


def _keys(index: Index) -> set[str]:
    names = index.column("file_name").to_pylist()
    coco_ids = index.column("coco_id").to_pylist()
    return {photograph_key(name, key) for name, key in zip(names, coco_ids, strict=True)}
