"""Rows seen through a protocol: what every metric file works on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num

from tris.metrics.protocols import ScoringProtocol
from tris.metrics.rows import column, merge_rows


@dataclass(frozen=True)
class Scored:
    """Rows with the protocol's policies applied.

    Attributes:
        rows: Each expression once, sorted by id.
        protocol: The policies.
        intersection: 0 where the prediction counts as "nothing here".
        union: Pixels in prediction or truth.
        prediction_area: 0 where the mask is below the protocol's minimum area.
        is_no_target: The truth.
        predicted_no_target: What the prediction says, by the protocol's rule.
        is_dropped: Masks below the minimum area, taken as empty.
        weight: Of the expression in a mean.
        sum_weight: Of the expression in a sum of areas.
    """

    rows: Int64[np.ndarray, "expr columns"]
    protocol: ScoringProtocol
    intersection: Int64[np.ndarray, "expr"]
    union: Int64[np.ndarray, "expr"]
    prediction_area: Int64[np.ndarray, "expr"]
    is_no_target: Bool[np.ndarray, "expr"]
    predicted_no_target: Bool[np.ndarray, "expr"]
    is_dropped: Bool[np.ndarray, "expr"]
    weight: Float64[np.ndarray, "expr"]
    sum_weight: Float64[np.ndarray, "expr"]

    def column(self, name: str) -> Int64[np.ndarray, "expr"]:
        """Return the column of `Counts` called ``name``."""
        return column(self.rows, name)

    def iou(self) -> Float64[np.ndarray, "expr"]:
        """Return the IoU per expression, 0 where the union is empty."""
        return np.asarray(self.intersection / np.maximum(self.union, 1))


def apply_protocol(rows: Int64[np.ndarray, "_ columns"], protocol: ScoringProtocol) -> Scored:
    """Return the rows that the protocol scores, as it sees them."""
    rows = merge_rows([rows])
    if protocol.minimum_box_percent:
        share = column(rows, "target_box_area") * 100
        rows = rows[share > protocol.minimum_box_percent * column(rows, "image_area")]
    area = column(rows, "prediction_area")
    is_dropped = (area > 0) & (area < protocol.minimum_area)
    area = np.where(is_dropped, 0, area)
    predicted_no_target = _predicted_no_target(rows, area, protocol)
    union = np.where(is_dropped, column(rows, "target_area"), column(rows, "union"))
    is_nothing = is_dropped | predicted_no_target
    weight, sum_weight = _weights(column(rows, "referent_id"), protocol)
    return Scored(
        rows=rows,
        protocol=protocol,
        intersection=np.where(is_nothing, 0, column(rows, "intersection")),
        union=union,
        prediction_area=area,
        is_no_target=column(rows, "is_no_target") != 0,
        predicted_no_target=predicted_no_target,
        is_dropped=is_dropped,
        weight=weight,
        sum_weight=sum_weight,
    )


def weighted_mean(
    values: Num[np.ndarray, "expr"] | Bool[np.ndarray, "expr"],
    weight: Float64[np.ndarray, "expr"],
    among: Bool[np.ndarray, "expr"],
) -> float:
    """Return the weighted mean of the values that ``among`` admits; there must be one."""
    return float(np.average(values[among].astype(np.float64), weights=weight[among]))


def _predicted_no_target(
    rows: Int64[np.ndarray, "expr columns"],
    area: Int64[np.ndarray, "expr"],
    protocol: ScoringProtocol,
) -> Bool[np.ndarray, "expr"]:
    is_flagged = column(rows, "predicted_no_target") != 0
    if protocol.no_target_by == "head":
        return np.asarray(is_flagged)
    if protocol.no_target_by == "empty_mask":
        return np.asarray(area == 0)
    return np.asarray(is_flagged | (area == 0))


def _weights(
    referent_id: Int64[np.ndarray, "expr"], protocol: ScoringProtocol
) -> tuple[Float64[np.ndarray, "expr"], Float64[np.ndarray, "expr"]]:
    _, inverse, sizes = np.unique(referent_id, return_inverse=True, return_counts=True)
    num_sentences = sizes[inverse].astype(np.float64)
    once = np.ones_like(num_sentences)
    if protocol.weighting == "referent":
        return 1 / num_sentences, 1 / num_sentences
    if protocol.weighting == "released_prms":
        return once, num_sentences
    return once, once
