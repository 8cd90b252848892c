"""Arithmetic on run-length masks without decoding them to pixels.

Masks come in through `tris.data.masks.check_rle` or `encode_mask`; nothing here checks them again.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco

Rle = dict[str, Any]
"""COCO RLE ``{"size": [height, width], "counts": str}``; runs in column order."""


def area(rle: Rle) -> int:
    """Return the number of pixels."""
    return int(coco.area(rle))


def intersection_area(first: Rle, second: Rle) -> int:
    """Return the number of pixels that both masks have."""
    return area(coco.merge([first, second], intersect=True))


def enclosing_box(rle: Rle) -> tuple[int, int, int, int] | None:
    """Return x1, y1, x2, y2 (the last two exclusive) around the mask, None for an empty one."""
    x, y, width, height = (int(value) for value in coco.toBbox(rle))
    return (x, y, x + width, y + height) if width and height else None


def contains_pixel(rle: Rle, x: int, y: int) -> bool:
    """Return whether the mask has the pixel in column ``x`` and row ``y``."""
    height, width = rle["size"]
    before = x * height + y
    runs = [before, 1, height * width - before - 1]
    pixel = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return intersection_area(rle, pixel) == 1


def to_dense(rle: Rle) -> Bool[np.ndarray, "height width"]:
    """Return the pixels."""
    return np.asarray(coco.decode(rle) != 0)
