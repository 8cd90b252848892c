"""Boxes of a predicted mask, and how well they meet the box of the object.

Two rules: the one box that encloses the mask (plain), and the boxes that the released TRIS
evaluator draws around contours (``generated``), quirks included, for matching published numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from pycocotools import mask as coco
from torchvision.ops import nms

from tris.metrics.rle import Rle, area, enclosing_box
from tris.metrics.scoring import Scored, weighted_mean

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in original pixels."""

NMS_THRESHOLD = 0.05
"""Released TRIS."""

FALLBACK_BOX: Box = (0, 0, 1, 1)
"""What released TRIS answers where the mask is the same everywhere."""


class Overlap(NamedTuple):
    """Two boxes: pixels in both, pixels in either."""

    intersection: int
    union: int


def best_overlap(boxes: Sequence[Box], targets: Sequence[Box]) -> Overlap:
    """Return the pair with the highest IoU, the first of equals; there must be one of each."""
    ours, theirs = np.array(boxes)[:, None], np.array(targets)[None]
    near, far = np.maximum(ours, theirs)[..., :2], np.minimum(ours, theirs)[..., 2:]
    intersection = (far - near).clip(min=0).prod(axis=-1)
    areas = [(corners[..., 2:] - corners[..., :2]).prod(axis=-1) for corners in (ours, theirs)]
    union = areas[0] + areas[1] - intersection
    best = int(np.argmax(intersection / np.maximum(union, 1)))
    return Overlap(int(intersection.flat[best]), int(union.flat[best]))


def generate_boxes(mask: Rle) -> list[Box]:
    """Return the boxes that the released TRIS evaluator draws for a binary mask.

    Every contour, outer or hole, gives its bounding rectangle, scored by the share of mask pixels
    in it; non-maximum suppression reads (x, y, width, height) as if they were corners; rectangles
    of at most half the best score go.

    Returns:
        By falling score; `FALLBACK_BOX` where the mask is empty or full.

    Source:
        Released TRIS evaluator; reproduced from its published behaviour, checked by golden.
    """
    height, width = mask["size"]
    frame = enclosing_box(mask)
    if frame is None or area(mask) == height * width:
        return [FALLBACK_BOX]
    x, y, right, bottom = frame
    inside = np.ascontiguousarray(coco.decode(mask)[y:bottom, x:right])
    return [box for box, _ in _boxes_of_contours(inside, offset=(x, y))]


def generate_boxes_of_response(
    response: Float[np.ndarray, "height width"],
) -> list[tuple[Box, float]]:
    """Return boxes and scores for a continuous response, the released rule before binarisation.

    The response is scaled to [0, 1], painted with the cubehelix colours, turned to grey, and what
    is darker than half the brightest grey goes.
    """
    response = response.astype(np.float64)
    lowest, highest = float(response.min()), float(response.max())
    if lowest == highest:
        return [(FALLBACK_BOX, 0.0)]
    level = np.minimum((response - lowest) / (highest - lowest) * 256, 255).astype(np.uint8)
    grey = cv2.cvtColor(_cubehelix()[level], cv2.COLOR_RGB2GRAY)
    kept = np.where(grey > int(0.5 * int(grey.max())), grey, 0).astype(np.uint8)
    return _boxes_of_contours(kept, offset=(0, 0), full=255)


def box_metrics(scored: Scored) -> dict[str, float]:
    """Return ``box_accuracy`` (box IoU of one half) and ``box_mean_iou``, over targeted rows."""
    best, chosen = (
        ("generated_best", "generated_peak")
        if scored.protocol.box_rule == "generated"
        else ("box", "box")
    )
    among = ~scored.is_no_target & (scored.column(f"{best}_union") > 0)
    if not among.any():
        return {}
    best_iou = _box_iou(scored, best)
    is_hit = best_iou > 0.5 if scored.protocol.box_is_strict else best_iou >= 0.5
    return {
        "box_accuracy": weighted_mean(is_hit, scored.weight, among),
        "box_mean_iou": weighted_mean(_box_iou(scored, chosen), scored.weight, among),
    }


def _box_iou(scored: Scored, which: str) -> Float[np.ndarray, "expr"]:
    intersection = np.where(scored.is_dropped, 0, scored.column(f"{which}_intersection"))
    return np.asarray(intersection / np.maximum(scored.column(f"{which}_union"), 1))


def _boxes_of_contours(
    kept: UInt8[np.ndarray, "height width"], *, offset: tuple[int, int], full: int = 1
) -> list[tuple[Box, float]]:
    contours, _ = cv2.findContours(kept, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    rectangles = np.array([cv2.boundingRect(contour) for contour in contours], dtype=np.int64)
    x, y, width, height = rectangles.T
    sums = cv2.integral(kept, sdepth=cv2.CV_64F)
    mass = sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x]
    scores = mass * (255 // full) / (width * height) / 255
    x, y = x + offset[0], y + offset[1]
    as_if_corners = torch.from_numpy(np.stack([x, y, width, height], axis=1)).float()
    order = nms(as_if_corners, torch.from_numpy(scores).float(), NMS_THRESHOLD).tolist()
    return [
        ((int(x[i]), int(y[i]), int(x[i] + width[i]), int(y[i] + height[i])), float(scores[i]))
        for i in order
        if scores[i] > 0.5 * scores.max()
    ]


def _cubehelix() -> UInt8[np.ndarray, "256 3"]:
    """Green (2011), equation 2; start 0.5, rotations -1.5, hue 1, gamma 1."""
    level = np.linspace(0, 1, 256)
    angle = 2 * np.pi * (0.5 / 3 - 1.5 * level)
    cosine, sine = np.cos(angle), np.sin(angle)
    amplitude = level * (1 - level) / 2
    turns = ((-0.14861, 1.78277), (-0.29227, -0.90649), (1.97294, 0.0))
    colours = np.stack([level + amplitude * (p * cosine + q * sine) for p, q in turns], axis=1)
    return np.asarray((colours.clip(0, 1) * 255).astype(np.uint8))
