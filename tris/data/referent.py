"""`Referent`, one row of the index, and how it lies in an Arrow file."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Referent:
    """One row of the index: an object (or several, or none) and the sentences that refer to it.

    Attributes:
        referent_id: Official ``ref_id``.
        image_id: Official image id.
        file_name: Relative to the image folder.
        height: Of the photograph, pixels.
        width: Of the photograph, pixels.
        expression_ids: Official ``sent_id`` per sentence.
        sentences: Cleaned text (``sent``).
        raw_sentences: Text as typed (``raw``).
        expression_types: Free label per sentence ("attribute", ...); empty where unknown.
        category: Category name; empty where unknown.
        annotation_ids: Official ``ann_id``s; empty for no target.
        is_no_target: Whether the sentences refer to nothing in the image.
        group: Name of the image group (group-wise sets), whose rows share one sentence; empty
            otherwise.
        mask: COCO RLE ``{"size": [height, width], "counts": str}`` of the union of the objects,
            all zero for no target, None where masks were left out.
        boxes: x, y, width, height per object, original pixels; empty where left out.
        source_id: The release's own name where it is no integer (PhraseCut's ``task_id``, MeViS's
            ``video/expression/frame``); empty otherwise.
        is_turned: Whether height and width are those of the photograph after its EXIF orientation
            was applied; False = the pixels as they are stored.
        coco_id: COCO's id of the photograph; 0 where it is none of COCO's, or nobody knows.
    """

    referent_id: int
    image_id: int
    file_name: str
    height: int
    width: int
    expression_ids: tuple[int, ...]
    sentences: tuple[str, ...]
    raw_sentences: tuple[str, ...]
    expression_types: tuple[str, ...] = ()
    category: str = ""
    annotation_ids: tuple[int, ...] = ()
    is_no_target: bool = False
    group: str = ""
    mask: dict[str, object] | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    source_id: str = ""
    is_turned: bool = False
    coco_id: int = 0


SCHEMA = pa.schema(
    [
        ("referent_id", pa.int64()),
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("expression_ids", pa.list_(pa.int64())),
        ("sentences", pa.list_(pa.string())),
        ("raw_sentences", pa.list_(pa.string())),
        ("expression_types", pa.list_(pa.string())),
        ("category", pa.string()),
        ("annotation_ids", pa.list_(pa.int64())),
        ("is_no_target", pa.bool_()),
        ("group", pa.string()),
        ("mask", pa.string()),
        ("boxes", pa.list_(pa.list_(pa.float64()))),
        ("source_id", pa.string()),
        ("is_turned", pa.bool_()),
        ("coco_id", pa.int64()),
    ]
)
"""Columns of a split's file: the fields of `Referent`; ``mask`` holds the RLE's counts alone."""


def to_row(referent: Referent) -> dict[str, Any]:
    """Return the referent as a row of `SCHEMA`."""
    row = dict(vars(referent))
    row["mask"] = None if referent.mask is None else referent.mask["counts"]
    return row


def from_row(row: dict[str, Any]) -> Referent:
    """Return the referent of a row of `SCHEMA`."""
    counts, size = row["mask"], [row["height"], row["width"]]
    row = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    row["mask"] = None if counts is None else {"size": size, "counts": counts}
    row["boxes"] = tuple((x, y, width, height) for x, y, width, height in row["boxes"])
    return Referent(**row)
