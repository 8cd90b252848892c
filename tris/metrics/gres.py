"""Metrics that know expressions which refer to nothing: gRefCOCO, Ref-ZOM, GRSer."""

import numpy as np
from jaxtyping import Bool

from tris.metrics.scoring import Scored, weighted_mean


def gres_metrics(scored: Scored) -> dict[str, float]:
    """Return gIoU, cIoU, the accuracies on (no-)target expressions, and GRSer's two.

    Source:
        gRefCOCO evaluator (GRES), Ref-ZOM section 5.2, GRSer section 5.1.
    """
    everything = np.ones_like(scored.is_no_target)
    if not everything.any():
        return {}
    metrics = {"generalized_mean_iou": _mean_with_no_target(scored)}
    union = float((scored.sum_weight * _cumulative_union(scored)).sum())
    if union:
        among = ~scored.is_no_target
        intersection = float((scored.sum_weight * scored.intersection)[among].sum())
        metrics["cumulative_iou"] = intersection / union
    metrics |= _accuracies(scored)
    metrics["adapted_mean_iou"] = _mean_with_no_target(scored)
    return metrics


def _mean_with_no_target(scored: Scored) -> float:
    """Mean IoU where a rightly refused expression scores 1, a wrongly accepted or refused one 0.

    GRES and GRSer define it alike; they differ in what counts as refusing (`no_target_by`).
    """
    value = np.where(scored.is_no_target, scored.predicted_no_target, scored.iou())
    return weighted_mean(value, scored.weight, np.ones_like(scored.is_no_target))


def _cumulative_union(scored: Scored) -> np.ndarray:
    is_right_refusal = scored.is_no_target & scored.predicted_no_target
    return np.where(is_right_refusal, 0, scored.union)


def _accuracies(scored: Scored) -> dict[str, float]:
    metrics: dict[str, float] = {}
    negatives, positives = scored.is_no_target, ~scored.is_no_target
    if negatives.any():
        is_right = scored.predicted_no_target
        metrics["no_target_accuracy"] = weighted_mean(is_right, scored.weight, negatives)
        metrics["negative_recall"] = metrics["no_target_accuracy"]
        is_empty = scored.prediction_area == 0
        metrics["zero_sample_accuracy"] = weighted_mean(is_empty, scored.weight, negatives)
    if positives.any():
        is_right = ~scored.predicted_no_target
        metrics["target_accuracy"] = weighted_mean(is_right, scored.weight, positives)
    if scored.protocol.accuracy_formula == "released_mabp":
        return metrics | _released_mabp(scored, negatives, positives)
    return metrics


def _released_mabp(
    scored: Scored, negatives: Bool[np.ndarray, "expr"], positives: Bool[np.ndarray, "expr"]
) -> dict[str, float]:
    """Return MABP's code's formulas, of which neither is a rate: TP/(TP+FN+1), TP/(TP+FP+1)."""
    right_refusals = int((negatives & scored.predicted_no_target).sum())
    missed_refusals = int((negatives & ~scored.predicted_no_target).sum())
    wrong_refusals = int((positives & scored.predicted_no_target).sum())
    return {
        "no_target_accuracy": right_refusals / (right_refusals + missed_refusals + 1),
        "target_accuracy": right_refusals / (right_refusals + wrong_refusals + 1),
    }
