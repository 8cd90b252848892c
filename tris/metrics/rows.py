"""The row of whole numbers that stands for one expression, and how rows come together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64


class Counts(NamedTuple):
    """One expression: facts only, pixels of the scored raster. Policies are applied later.

    Attributes:
        expression_id: Official ``sent_id``.
        referent_id: Official ``ref_id``.
        sequence_id: What contour metrics average first (frames of one video and sentence); equal
            to the expression's id elsewhere.
        image_area: Pixels of the raster.
        intersection: Pixels in prediction and truth.
        union: Pixels in prediction or truth.
        prediction_area: Pixels of the prediction.
        target_area: Pixels of the truth; 0 for no-target expressions, whatever the file held.
        is_no_target: The truth: nothing fits.
        predicted_no_target: The prediction's own flag.
        has_point: Whether a peak was given.
        peak_in_mask: Whether the peak lies in the true mask.
        peak_in_box: Whether the peak lies in a true box, bounds inclusive.
        target_box_area: Of the largest true box.
        box_intersection: Box enclosing the prediction against box enclosing the truth.
        box_union: 0 where the truth has no box.
        generated_best_intersection: Best of the boxes drawn as released TRIS does.
        generated_best_union: 0 where they were not drawn.
        generated_peak_intersection: Of the last drawn box with the peak in it, else the first.
        generated_peak_union: 0 where they were not drawn.
        has_contour: Whether the four numbers below were counted.
        prediction_contour: Contour pixels of the prediction.
        target_contour: Contour pixels of the truth.
        prediction_contour_matched: Those of the prediction near a contour of the truth.
        target_contour_matched: Those of the truth near a contour of the prediction.
    """

    expression_id: int
    referent_id: int
    sequence_id: int
    image_area: int
    intersection: int
    union: int
    prediction_area: int
    target_area: int
    is_no_target: int
    predicted_no_target: int
    has_point: int = 0
    peak_in_mask: int = 0
    peak_in_box: int = 0
    target_box_area: int = 0
    box_intersection: int = 0
    box_union: int = 0
    generated_best_intersection: int = 0
    generated_best_union: int = 0
    generated_peak_intersection: int = 0
    generated_peak_union: int = 0
    has_contour: int = 0
    prediction_contour: int = 0
    target_contour: int = 0
    prediction_contour_matched: int = 0
    target_contour_matched: int = 0


NUM_COLUMNS = len(Counts._fields)
"""Length of a row."""


def column(rows: Int64[np.ndarray, "expr columns"], name: str) -> Int64[np.ndarray, "expr"]:
    """Return the column of `Counts` called ``name``."""
    return np.asarray(rows[:, Counts._fields.index(name)])


def repeat_row(
    row: Int64[np.ndarray, "columns"], expression_ids: Sequence[int]
) -> Int64[np.ndarray, "expr columns"]:
    """Return a row once per sentence: what they share was counted once."""
    rows = np.tile(row, (len(expression_ids), 1))
    for name in ("expression_id", "sequence_id"):
        rows[:, Counts._fields.index(name)] = expression_ids
    return rows


def merge_rows(
    parts: Sequence[Int64[np.ndarray, "_ columns"] | Float64[np.ndarray, "_ columns"]],
) -> Int64[np.ndarray, "expr columns"] | Float64[np.ndarray, "expr columns"]:
    """Return all rows once, sorted by expression and referent.

    Samplers pad the last batch with items they have already given, so the same expression may come
    more than once; one (expression, referent) pair counts once.
    """
    if not parts:
        return np.zeros((0, NUM_COLUMNS), dtype=np.int64)
    rows = np.concatenate(parts)
    _, first = np.unique(rows[:, :2], axis=0, return_index=True)
    return np.asarray(rows[first])
