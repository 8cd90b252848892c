"""COCO RLE: the one form in which masks are stored, through `pycocotools`.

`pycocotools` reads malformed runs without complaint (or past the end of memory), so everything
that comes from outside passes `check_rle` or `polygons_to_rle` first.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, UInt8
from pycocotools import mask as coco

from tris.errors import InputError, shorten

Rle = dict[str, object]
"""``{"size": [height, width], "counts": str}``, runs in column order."""

Overlap = Literal["union", "refer-quirk"]
"""How overlapping polygons of one annotation are read. ``union`` is right. ``refer-quirk`` is what
REFER's ``getMask`` and its readers (LAVT, TRIS, DMMI) make of them: parts are summed, then only
pixels equal to 1 are kept, so an overlap of two parts becomes a hole."""

MAX_PIXELS = 100_000_000


def encode_mask(
    mask: UInt8[np.ndarray, "height width"] | Bool[np.ndarray, "height width"],
) -> Rle:
    """Return the RLE of a mask; every non-zero pixel is foreground."""
    return _as_text(coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8)))


def decode_mask(rle: dict[str, Any]) -> UInt8[np.ndarray, "height width"]:
    """Return the pixels of an RLE, 0 or 1.

    Raises:
        InputError: If the RLE is malformed.
    """
    return np.ascontiguousarray(coco.decode(_as_bytes(check_rle(rle))))


def empty_rle(height: int, width: int) -> Rle:
    """Return the RLE of a mask without foreground."""
    return encode_mask(np.zeros((height, width), np.uint8))


def check_rle(rle: object) -> Rle:
    """Return a sound RLE with text counts, from text, bytes or a list of run lengths.

    Raises:
        InputError: If the size is no pair of positive integers, or the runs do not fill it.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= set(rle):
        raise InputError(f"A mask must be a COCO RLE with size and counts, not {shorten(rle)}.")
    size = rle["size"]
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(isinstance(side, int | np.integer) and side > 0 for side in size)
        or int(size[0]) * int(size[1]) > MAX_PIXELS
    ):
        raise InputError(f"The size of an RLE must be [height, width], not {shorten(size)}.")
    height, width = int(size[0]), int(size[1])
    shortest, filled = _measure_runs(rle["counts"])
    if shortest < 0 or filled != height * width:
        raise InputError(
            f"The runs of an RLE of {height} x {width} must fill its {height * width} pixels; "
            f"these fill {filled}: {shorten(rle['counts'])}."
        )
    if isinstance(rle["counts"], str):
        return {"size": [height, width], "counts": rle["counts"]}
    if isinstance(rle["counts"], bytes):
        return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    plain = {"size": [height, width], "counts": list(map(int, rle["counts"]))}
    return _as_text(coco.frPyObjects(plain, height, width))


def merge_masks(rles: Sequence[dict[str, Any]]) -> Rle:
    """Return the union.

    Raises:
        InputError: If there is none, one is malformed, or their sizes differ.
    """
    checked = [check_rle(rle) for rle in rles]
    sizes = sorted({str(rle["size"]) for rle in checked})
    if len(sizes) != 1:
        raise InputError(f"A union needs masks of one size, not {sizes}.")
    if len(checked) == 1:
        return checked[0]
    return _as_text(coco.merge([_as_bytes(rle) for rle in checked], intersect=False))


def polygons_to_rle(
    polygons: Sequence[object],
    height: int,
    width: int,
    *,
    overlapping: Overlap = "union",
) -> Rle:
    """Return the mask of one annotation's polygons, drawn as COCO draws them.

    Args:
        polygons: Flat lists x1, y1, x2, y2, ... in original pixels; what lies outside the image
            is clipped.
        height: Of the image.
        width: Of the image.
        overlapping: See `Overlap`.

    Raises:
        InputError: If there is no polygon, or one has fewer than three points, an odd number of
            values, or a value that is no finite number.
    """
    if not polygons:
        raise InputError("A mask of polygons needs at least one polygon.")
    points = [_points(polygon) for polygon in polygons]
    parts = coco.frPyObjects(points, height, width)
    if overlapping == "refer-quirk" and len(parts) > 1:
        return encode_mask(coco.decode(parts).sum(axis=2, dtype=np.int64) == 1)
    return _as_text(coco.merge(parts, intersect=False))


def resize_mask(
    mask: UInt8[np.ndarray, "height width"], size: tuple[int, int]
) -> UInt8[np.ndarray, "new_height new_width"]:
    """Return the mask at another size: each new pixel takes the old pixel under its centre.

    Args:
        mask: Any values.
        size: Height, width to make. The rule is PIL's ``NEAREST`` (and
            ``torchvision``'s on PIL images), not OpenCV's, which takes the upper left corner.
    """
    height, width = mask.shape
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    resized: np.ndarray = mask[rows[:, None], columns[None, :]]
    return resized


def mask_to_box(
    mask: UInt8[np.ndarray, "height width"] | Bool[np.ndarray, "height width"],
) -> tuple[float, float, float, float] | None:
    """Return x, y, width, height of the smallest box around the foreground; None without any."""
    rows = np.flatnonzero((mask != 0).any(axis=1))
    columns = np.flatnonzero((mask != 0).any(axis=0))
    if not len(rows):
        return None
    top, left = float(rows[0]), float(columns[0])
    return left, top, float(columns[-1]) + 1 - left, float(rows[-1]) + 1 - top


def rle_area(rle: dict[str, Any]) -> int:
    """Return the number of foreground pixels, without decoding."""
    return int(coco.area(_as_bytes(check_rle(rle))))


def rle_size(rle: dict[str, Any]) -> tuple[int, int]:
    """Return height, width."""
    check_rle(rle)
    return int(rle["size"][0]), int(rle["size"][1])


def rle_to_box(rle: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Return x, y, width, height of the smallest box; None where the mask is empty."""
    x, y, width, height = (float(value) for value in coco.toBbox(_as_bytes(check_rle(rle))))
    return (x, y, width, height) if width * height > 0 else None


def _as_bytes(rle: Rle) -> dict[str, Any]:
    return {"size": rle["size"], "counts": str(rle["counts"]).encode("ascii")}


def _as_text(rle: dict[str, Any]) -> Rle:
    height, width = rle["size"]
    return {"size": [int(height), int(width)], "counts": rle["counts"].decode("ascii")}


def _measure_runs(counts: object) -> tuple[int, int]:
    """Return the shortest run (0 where there is none) and the sum of all, pixels."""
    if isinstance(counts, str) and counts.isascii():
        return _measure_text(counts.encode("ascii"))
    if isinstance(counts, bytes) and counts.isascii():
        return _measure_text(counts)
    if isinstance(counts, list) and all(
        isinstance(run, int | np.integer) and 0 <= run <= MAX_PIXELS for run in counts
    ):
        return int(min(counts, default=0)), int(sum(counts))
    raise InputError(f"The counts of an RLE must be COCO's text or runs, not {shorten(counts)}.")


@lru_cache(maxsize=256)  # A mask that is drawn, measured and written is checked each time.
def _measure_text(text: bytes) -> tuple[int, int]:
    runs = _runs_of_text(text)
    return int(runs.min()), int(runs.sum())


def _runs_of_text(text: bytes) -> np.ndarray:
    """Undo COCO's text form: 5 bits per character, low first, bit 5 = more, sign-extended.

    From the fourth run on, the value is the difference to the run two before.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    is_text = bool(((codes >= 0) & (codes <= 63)).all())
    if not is_text or not len(ends) or ends[-1] != len(codes) - 1:
        raise InputError(f"The counts of an RLE are no COCO text: {shorten(text)}.")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise InputError(f"A run of an RLE is too long for any image: {shorten(text)}.")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 0x1F) << shifts, starts)
    values -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _points(polygon: object) -> list[float]:
    if not isinstance(polygon, list | tuple) or not all(
        isinstance(value, int | float) for value in polygon
    ):
        raise InputError(f"A polygon must be a flat list of numbers, not {shorten(polygon)}.")
    if len(polygon) < 6 or len(polygon) % 2:
        raise InputError(f"A polygon needs three or more points x, y; {shorten(polygon)} has not.")
    if not all(abs(value) < 1e6 for value in polygon):
        raise InputError(f"A polygon must lie near its image; {shorten(polygon)} does not.")
    return [float(value) for value in polygon]
