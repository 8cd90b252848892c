"""From rows to the numbers that are printed: the one door to all metrics on counts."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from tris.metrics.boxes import box_metrics
from tris.metrics.gres import gres_metrics
from tris.metrics.iou import iou_metrics
from tris.metrics.point import point_metrics
from tris.metrics.protocols import PROTOCOLS, STANDARD, ScoringProtocol
from tris.metrics.rows import column, merge_rows
from tris.metrics.scoring import apply_protocol
from tris.metrics.video import video_metrics

__all__ = ["PROTOCOLS", "compute_by_group", "compute_metrics", "merge_rows", "summarise"]


def compute_metrics(
    rows: Int64[np.ndarray, "_ columns"], *, protocol: ScoringProtocol = STANDARD
) -> dict[str, float]:
    """Return every metric that the rows support, as fractions.

    Duplicates count once and the order of rows changes nothing. A metric without an expression to
    speak of (PointM without points, no-target accuracy without no-target expressions) is absent.
    """
    scored = apply_protocol(rows, protocol)
    metrics: dict[str, float] = {}
    for part in (iou_metrics, point_metrics, box_metrics, gres_metrics, video_metrics):
        metrics |= part(scored)
    return metrics


def compute_by_group(
    rows: Int64[np.ndarray, "_ columns"],
    groups: Mapping[int, str],
    *,
    protocol: ScoringProtocol = STANDARD,
) -> dict[str, dict[str, float]]:
    """Return the metrics of every group of expressions (kind of sentence, category, ...).

    Args:
        rows: See `compute_metrics`.
        groups: Name of the group by expression id; expressions that are not in it are left out.
        protocol: See `compute_metrics`.
    """
    members: dict[str, list[int]] = {}
    for index, expression_id in enumerate(column(rows, "expression_id").tolist()):
        if expression_id in groups:
            members.setdefault(groups[expression_id], []).append(index)
    return {
        name: compute_metrics(rows[indices], protocol=protocol)
        for name, indices in sorted(members.items())
    }


def summarise(
    rows: Int64[np.ndarray, "_ columns"],
    types: Mapping[int, str],
    *,
    names: Collection[str],
    protocol: ScoringProtocol = STANDARD,
) -> dict[str, Any]:
    """Return the named metrics of all expressions and, under ``by_type``, of each type.

    Args:
        rows: See `compute_metrics`.
        types: Type by expression id.
        names: Which metrics; those that the rows do not support are left out.
        protocol: See `compute_metrics`.
    """
    by_type = compute_by_group(rows, types, protocol=protocol)
    everything = compute_metrics(rows, protocol=protocol)
    return {
        **_pick(everything, names),
        "by_type": {kind: _pick(metrics, names) for kind, metrics in by_type.items()},
    }


def _pick(metrics: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    return {name: metrics[name] for name in names if name in metrics}
