"""The pointing game: does the peak of the response lie on the object?"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tris.metrics.protocols import MaskRule
from tris.metrics.scoring import Scored, weighted_mean

Number = int | float


def find_peak(
    response: Float[np.ndarray, "height width"], *, rule: MaskRule = "above_zero"
) -> tuple[int, int]:
    """Return column and row of the highest response; the first in reading order wins ties.

    Released TRIS (``peak_normalised``) looks after dividing by the maximum: where that lies below
    -1e-5 every sign flips, and the peak is the lowest response.
    """
    if rule == "peak_normalised":
        response = normalise_by_peak(response)
    row, column = np.unravel_index(int(np.argmax(response)), response.shape)
    return int(column), int(row)


def normalise_by_peak(
    response: Float[np.ndarray, "height width"],
) -> Float[np.ndarray, "height width"]:
    """Divide by (the maximum + 1e-5), as released TRIS does before anything else."""
    return np.asarray(response / (response.max() + 1e-5))


def is_in_a_box(x: int, y: int, boxes: Sequence[tuple[Number, Number, Number, Number]]) -> bool:
    """Return whether a pixel lies in any box (x, y, width, height), bounds inclusive.

    Corners are cut to whole pixels first, as released TRIS does.
    """
    return any(
        int(left) <= x <= int(left + width) and int(top) <= y <= int(top + height)
        for left, top, width, height in boxes
    )


def point_metrics(scored: Scored) -> dict[str, float]:
    """Return ``peak_in_mask_accuracy`` (PointM) and ``peak_in_box_accuracy`` (PointIt).

    Over targeted expressions; nothing where no prediction gave a point. An expression without a
    point among others that have one is a miss.

    Source:
        TRIS (arXiv 2308.14575), section 4.1.
    """
    among = ~scored.is_no_target
    if not (among & (scored.column("has_point") != 0)).any():
        return {}
    return {
        f"{name}_accuracy": weighted_mean(scored.column(name) != 0, scored.weight, among)
        for name in ("peak_in_mask", "peak_in_box")
    }
