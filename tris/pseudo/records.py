"""Label records: one line of JSON per referent, masks as COCO RLE."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8

from tris.data.masks import decode_mask, encode_mask
from tris.errors import InputError, shorten
from tris.pseudo.label import IGNORE, Degeneracy, PseudoLabel

RecordKey = tuple[str, int]
"""Data set name and official ``ref_id``."""


@dataclass(frozen=True)
class LabelRecord:
    """The label of one referent, as it is stored.

    Attributes:
        dataset: Name of the data set.
        ref_id: Official id of the referent.
        expression_id: Official id of the sentence whose map was chosen, or counted most.
        score: What speaks for that map, by how it was made: of PRMS the sum of its similarities
            to the referent's sentences, of merging by margin the margin of the sentence that
            counted most, of a segmenter's mean the mean IoU of the single sentences' masks with
            the mean's.
        degeneracy: What the label was before the config had its say.
        label: RLE of the foreground at the photograph's size; None if the referent was dropped.
        ignore: RLE of the pixels that no loss looks at; None without any.
    """

    dataset: str
    ref_id: int
    expression_id: int
    score: float
    degeneracy: Degeneracy
    label: dict[str, Any] | None
    ignore: dict[str, Any] | None

    @property
    def key(self) -> RecordKey:
        """Data set and referent."""
        return self.dataset, self.ref_id


def make_record(
    key: RecordKey, pseudo_label: PseudoLabel, *, expression_id: int, score: float
) -> LabelRecord:
    """Return the record of a label."""
    label = pseudo_label.label
    has_ignored = label is not None and bool((label == IGNORE).any())
    return LabelRecord(
        dataset=key[0],
        ref_id=key[1],
        expression_id=expression_id,
        score=score,
        degeneracy=pseudo_label.degeneracy,
        label=None if label is None else encode_mask(label == 1),
        ignore=encode_mask(label == IGNORE) if label is not None and has_ignored else None,
    )


def decode_label(record: LabelRecord) -> UInt8[np.ndarray, "height width"] | None:
    """Return 0, 1 or 255 per pixel of the photograph; None if the referent was dropped.

    Raises:
        InputError: If an RLE is malformed.
    """
    if record.label is None:
        return None
    label = decode_mask(record.label)
    if record.ignore is not None:
        label[decode_mask(record.ignore) == 1] = IGNORE
    return label


def encode_line(record: LabelRecord) -> bytes:
    """Return the record as one line, newline included."""
    return json.dumps(asdict(record), separators=(",", ":")).encode("ascii") + b"\n"


def decode_line(line: bytes, *, source: str) -> LabelRecord:
    """Read what `encode_line` wrote.

    Raises:
        InputError: If the line is damaged; ``source`` says where it stands.
    """
    try:
        fields = json.loads(line)
        _check_fields(fields)
        return LabelRecord(**fields)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{source} holds a damaged record ({error}); delete the folder and make the labels "
            "again."
        ) from error


_RLE = (dict, type(None))
_KINDS: dict[str, type | tuple[type, ...]] = {
    "dataset": str, "ref_id": int, "expression_id": int, "score": (float, int),
    "degeneracy": str, "label": _RLE, "ignore": _RLE,
}  # fmt: skip


def _check_fields(fields: object) -> None:
    """Check by hand: a training reads every line many times, and dacite takes eight times as long.

    Raises:
        TypeError: If these are not the fields of a record.
    """
    if not isinstance(fields, dict) or fields.keys() != _KINDS.keys():
        raise TypeError(f"a record has {', '.join(_KINDS)}")
    for name, kind in _KINDS.items():
        if not isinstance(fields[name], kind):
            raise TypeError(f"{name} is {shorten(fields[name])}")
    if fields["degeneracy"] not in get_args(Degeneracy):
        raise TypeError(f"degeneracy is {shorten(fields['degeneracy'])}")


def read_shard(path: Path) -> Iterator[tuple[int, LabelRecord]]:
    """Yield the byte offset and the record of every whole line.

    A last line without its newline was torn by a kill (or is being written) and is passed over.

    Raises:
        InputError: If a whole line is damaged.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield offset, decode_line(line, source=f"{path} line {number}")
            offset += len(line)
