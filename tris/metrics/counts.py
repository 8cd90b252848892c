"""The only per-pixel code: one prediction and its truth become one row of whole numbers."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from tris.data.masks import check_rle, empty_rle, encode_mask
from tris.errors import InputError
from tris.metrics.boxes import best_overlap, generate_boxes
from tris.metrics.point import Number, is_in_a_box
from tris.metrics.rle import (
    Rle,
    area,
    contains_pixel,
    enclosing_box,
    intersection_area,
    to_dense,
)
from tris.metrics.rows import Counts
from tris.metrics.video import count_contours

Mask = Rle | np.ndarray
"""COCO RLE, or a dense array whose non-zero pixels belong to the mask."""

TargetBoxes = Sequence[tuple[Number, Number, Number, Number]]
"""x, y, width, height per true object, original pixels."""

Point = tuple[Number, Number]
"""Column and row, original pixels."""


def count_row(
    prediction: Mask | None,
    target: Mask | None,
    *,
    expression_id: int,
    referent_id: int,
    size: tuple[int, int] | None = None,
    is_no_target: bool = False,
    predicted_no_target: bool | None = None,
    point: Point | None = None,
    boxes: TargetBoxes = (),
    sequence_id: int | None = None,
    with_generated_boxes: bool = True,
    with_contours: bool = False,
) -> Int64[np.ndarray, "columns"]:
    """Return the row of one expression; `tris.metrics.rows.Counts` names its columns.

    Args:
        prediction: None = nothing found.
        target: None = nothing to find. Not looked at where ``is_no_target``.
        expression_id: Official ``sent_id``.
        referent_id: Official ``ref_id``.
        size: Height and width of the raster; needed only where both masks are None.
        is_no_target: The truth.
        predicted_no_target: The prediction's own flag; None = "the prediction is None".
        point: Column and row of the response's peak.
        boxes: True boxes; the box enclosing ``target`` where there are none.
        sequence_id: See `Counts`; the expression's id where None.
        with_generated_boxes: Whether to draw boxes as released TRIS does (costs a decoded mask).
        with_contours: Whether to count contours (costs two decoded masks).

    Raises:
        InputError: If the two masks differ in size, a mask is broken, or the point lies outside.
    """
    ours, theirs = _as_rles(prediction, None if is_no_target else target, size)
    height, width = theirs["size"]
    common = intersection_area(ours, theirs)
    our_area, their_area = area(ours), area(theirs)
    counts = Counts(
        expression_id=expression_id,
        referent_id=referent_id,
        sequence_id=expression_id if sequence_id is None else sequence_id,
        image_area=height * width,
        intersection=common,
        union=our_area + their_area - common,
        prediction_area=our_area,
        target_area=their_area,
        is_no_target=int(is_no_target),
        predicted_no_target=int(
            prediction is None if predicted_no_target is None else predicted_no_target
        ),
    )
    true_boxes = () if is_no_target else _true_boxes(boxes, theirs)
    counts = _with_point(counts, point, theirs, true_boxes)
    counts = _with_boxes(counts, ours, theirs, true_boxes)
    if with_generated_boxes:
        counts = _with_generated_boxes(counts, ours, true_boxes, point)
    if with_contours:
        counts = _with_contours(counts, ours, theirs)
    return np.array(counts, dtype=np.int64)


def _as_rles(
    prediction: Mask | None, target: Mask | None, size: tuple[int, int] | None
) -> tuple[Rle, Rle]:
    ours, theirs = _as_rle(prediction), _as_rle(target)
    sizes = [tuple(mask["size"]) for mask in (theirs, ours) if mask is not None]
    sizes += [] if size is None else [size]
    if not sizes:
        raise InputError("neither mask is given: pass size=(height, width) of the image.")
    height, width = sizes[0]
    for other_height, other_width in sizes[1:]:
        if (other_height, other_width) != (height, width):
            raise InputError(
                f"the masks of one expression are {height} x {width} and {other_height} x "
                f"{other_width} pixels (height x width): predict in original pixels."
            )
    return ours or empty_rle(height, width), theirs or empty_rle(height, width)


def _as_rle(mask: Mask | None) -> Rle | None:
    if isinstance(mask, np.ndarray):
        return encode_mask(mask)
    return None if mask is None else check_rle(mask)


def _true_boxes(boxes: TargetBoxes, target: Rle) -> TargetBoxes:
    if boxes:
        return boxes
    enclosing = enclosing_box(target)
    if enclosing is None:
        return ()
    left, top, right, bottom = enclosing
    return ((left, top, right - left, bottom - top),)


def _with_point(counts: Counts, point: Point | None, target: Rle, boxes: TargetBoxes) -> Counts:
    if point is None:
        return counts
    x, y = int(point[0]), int(point[1])
    height, width = target["size"]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"the point ({point[0]}, {point[1]}) lies outside the image of {width} x {height} "
            "pixels (width x height): give [x, y] in original pixels."
        )
    return counts._replace(
        has_point=1,
        peak_in_mask=int(contains_pixel(target, x, y)),
        peak_in_box=int(is_in_a_box(x, y, boxes)),
    )


def _with_boxes(counts: Counts, prediction: Rle, target: Rle, boxes: TargetBoxes) -> Counts:
    largest = max((int(width * height) for _, _, width, height in boxes), default=0)
    counts = counts._replace(target_box_area=largest)
    true_box = enclosing_box(target)
    if true_box is None:
        return counts
    common = best_overlap([enclosing_box(prediction) or (0, 0, 0, 0)], [true_box])
    return counts._replace(box_intersection=common.intersection, box_union=common.union)


def _with_generated_boxes(
    counts: Counts, prediction: Rle, boxes: TargetBoxes, point: Point | None
) -> Counts:
    if not boxes:
        return counts
    drawn = generate_boxes(prediction)
    true_boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h in boxes]
    best = best_overlap(drawn, true_boxes)
    chosen = drawn[0]
    if point is not None:
        x, y = int(point[0]), int(point[1])
        around = [box for box in drawn if box[0] <= x <= box[2] and box[1] <= y <= box[3]]
        chosen = around[-1] if around else chosen
    at_peak = best_overlap([chosen], true_boxes)
    return counts._replace(
        generated_best_intersection=best.intersection,
        generated_best_union=best.union,
        generated_peak_intersection=at_peak.intersection,
        generated_peak_union=at_peak.union,
    )


def _with_contours(counts: Counts, prediction: Rle, target: Rle) -> Counts:
    found = count_contours(to_dense(prediction), to_dense(target))
    return counts._replace(
        has_contour=1,
        prediction_contour=found.prediction,
        target_contour=found.target,
        prediction_contour_matched=found.prediction_matched,
        target_contour_matched=found.target_matched,
    )
