"""The table that `tris score` and the evaluator print."""

from collections.abc import Mapping

from rich import box
from rich.table import Table

_PAIRS = (
    ("mean_iou", "overall_iou"),
    ("generalized_mean_iou", "cumulative_iou"),
    ("precision_at_50", "precision_at_60"),
    ("precision_at_70", "precision_at_80"),
    ("precision_at_90", None),
    ("peak_in_mask_accuracy", "peak_in_box_accuracy"),
    ("box_accuracy", "box_mean_iou"),
    ("no_target_accuracy", "target_accuracy"),
    ("zero_sample_accuracy", None),
    ("adapted_mean_iou", "negative_recall"),
    ("mae", "max_f_measure"),
    ("s_measure", "mean_e_measure"),
    ("region_similarity", "contour_accuracy"),
    ("j_and_f", None),
)
_ALSO_CALLED = {
    "mean_iou": "mIoU",
    "overall_iou": "oIoU",
    "generalized_mean_iou": "gIoU",
    "cumulative_iou": "cIoU",
    "peak_in_mask_accuracy": "PointM",
    "peak_in_box_accuracy": "PointIt",
    "no_target_accuracy": "N-acc",
    "target_accuracy": "T-acc",
    "zero_sample_accuracy": "Acc",
    "negative_recall": "R_neg",
    "region_similarity": "J",
    "contour_accuracy": "F",
    "j_and_f": "J&F",
}


def metrics_table(metrics: Mapping[str, float], *, title: str, caption: str | None = None) -> Table:
    """Return the metrics two by two, the two IoUs side by side; percent."""
    table = Table(
        title=title, caption=caption, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False
    )
    for side in ("left", "right"):
        table.add_column("metric" if side == "left" else "", no_wrap=True)
        table.add_column("%", justify="right", no_wrap=True)
    for left, right in _PAIRS:
        if left in metrics or right in metrics:
            table.add_row(*_cells(metrics, left), *_cells(metrics, right))
    return table


def groups_table(groups: Mapping[str, Mapping[str, float]], *, title: str) -> Table:
    """Return one row per group of expressions with both IoUs; percent.

    Where a group has expressions that refer to nothing, which have no IoU, gIoU stands before them.
    """
    keys = ["mean_iou", "overall_iou", "precision_at_50"]
    if any("no_target_accuracy" in metrics for metrics in groups.values()):
        keys.insert(0, "generalized_mean_iou")
    table = Table(title=title)
    table.add_column("group")
    for key in keys:
        table.add_column(key, justify="right")
    for name, metrics in groups.items():
        values = (metrics.get(key) for key in keys)
        table.add_row(name, *("-" if value is None else f"{100 * value:.2f}" for value in values))
    return table


def _cells(metrics: Mapping[str, float], name: str | None) -> tuple[str, str]:
    if name is None or name not in metrics:
        return "", ""
    also = _ALSO_CALLED.get(name)
    return (f"{name} ({also})" if also else name), f"{100 * metrics[name]:.2f}"
