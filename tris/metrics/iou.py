"""Mean IoU, overall IoU and precision at IoU thresholds."""

import numpy as np
from jaxtyping import Bool, Float32, Float64

from tris.metrics.point import normalise_by_peak
from tris.metrics.protocols import MaskRule
from tris.metrics.scoring import Scored, weighted_mean

PRECISION_PERCENTS = (50, 60, 70, 80, 90)


def mask_from_response(
    response: Float32[np.ndarray, "height width"] | Float64[np.ndarray, "height width"],
    *,
    rule: MaskRule = "above_zero",
) -> Bool[np.ndarray, "height width"]:
    """Return the mask of a response (or of logits) in the raster that is scored.

    ``peak_normalised`` is the released TRIS rule, kept to the letter: where the highest response
    lies below -1e-5, dividing by it flips every sign and the whole image becomes foreground.
    """
    if rule == "peak_normalised":
        return np.asarray(normalise_by_peak(response) > 1e-9)
    return np.asarray(response > 0)


def iou_metrics(scored: Scored) -> dict[str, float]:
    """Return ``mean_iou``, ``overall_iou`` and ``precision_at_50`` ... ``precision_at_90``."""
    among = ~scored.is_no_target if scored.protocol.scope == "targeted" else _everything(scored)
    iou = scored.iou()
    is_empty = scored.union == 0
    if scored.protocol.empty_union == "one":
        iou = np.where(is_empty, 1.0, iou)
    if scored.protocol.empty_union == "skip":
        among = among & ~is_empty
    if not among.any():
        return {}
    weight = scored.weight
    metrics = {"mean_iou": weighted_mean(iou, weight, among)}
    union = float((scored.sum_weight * scored.union)[among].sum())
    if union:
        intersection = float((scored.sum_weight * scored.intersection)[among].sum())
        metrics["overall_iou"] = intersection / union
    for percent in PRECISION_PERCENTS:
        limit = percent / 100
        is_right = iou > limit if scored.protocol.precision_is_strict else iou >= limit
        metrics[f"precision_at_{percent}"] = weighted_mean(is_right, weight, among)
    return metrics


def _everything(scored: Scored) -> Bool[np.ndarray, "expr"]:
    return np.ones_like(scored.is_no_target)
