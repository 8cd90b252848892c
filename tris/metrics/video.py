"""Region similarity J, contour accuracy F and their mean, for masks of video frames."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from tris.metrics.scoring import Scored

BOUNDARY_TOLERANCE = 0.008
"""Share of the image diagonal within which two contours match (DAVIS, MeViS)."""


class ContourCounts(NamedTuple):
    """Contour pixels, and those with a contour of the other mask near."""

    prediction: int
    target: int
    prediction_matched: int
    target_matched: int


def find_contour(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Return the pixels that differ from their right, lower or lower-right neighbour.

    The last row looks right only, the last column down only, the last corner at nothing.

    Source:
        The MeViS evaluator's boundary map, after DAVIS.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    contour = (mask != right) | (mask != below) | (mask != diagonal)
    return np.asarray(contour)


def count_contours(
    prediction: Bool[np.ndarray, "height width"], target: Bool[np.ndarray, "height width"]
) -> ContourCounts:
    """Match the contours of two masks within a disk of 0.8 % of the image diagonal."""
    radius = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*target.shape))
    ours, theirs = find_contour(prediction), find_contour(target)
    return ContourCounts(
        prediction=int(ours.sum()),
        target=int(theirs.sum()),
        prediction_matched=int((ours & _grow(theirs, radius)).sum()),
        target_matched=int((theirs & _grow(ours, radius)).sum()),
    )


def video_metrics(scored: Scored) -> dict[str, float]:
    """Return ``region_similarity``, ``contour_accuracy``, ``j_and_f`` where contours were counted.

    Mean over the frames of a sequence, then over sequences. An empty prediction of an empty frame
    scores 1.
    """
    among = scored.column("has_contour") != 0
    if not among.any():
        return {}
    region = np.where(scored.union == 0, 1.0, scored.iou())
    sequence = scored.column("sequence_id")[among]
    similarity = _mean_over_sequences(region[among], sequence)
    accuracy = _mean_over_sequences(_contour_f(scored)[among], sequence)
    return {
        "region_similarity": similarity,
        "contour_accuracy": accuracy,
        "j_and_f": (similarity + accuracy) / 2,
    }


def _contour_f(scored: Scored) -> Float64[np.ndarray, "expr"]:
    """Harmonic mean of precision and recall of contour pixels; both empty = 1, one empty = 0."""
    is_nothing = scored.is_dropped | scored.predicted_no_target
    ours = np.where(is_nothing, 0, scored.column("prediction_contour"))
    theirs = scored.column("target_contour")
    precision = scored.column("prediction_contour_matched") / np.maximum(ours, 1)
    recall = scored.column("target_contour_matched") / np.maximum(theirs, 1)
    mean = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    return np.asarray(np.where((ours == 0) | (theirs == 0), (ours == 0) & (theirs == 0), mean))


def _mean_over_sequences(values: np.ndarray, sequence: np.ndarray) -> float:
    _, inverse, sizes = np.unique(sequence, return_inverse=True, return_counts=True)
    return float((np.bincount(inverse, weights=values) / sizes).mean())


def _grow(contour: Bool[np.ndarray, "height width"], radius: int) -> np.ndarray:
    if not contour.any():
        return contour
    from skimage.morphology import isotropic_dilation  # here, because importing it takes seconds

    return np.asarray(isotropic_dilation(contour, radius))
