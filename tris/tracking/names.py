"""Names of figures and steps, as people read them, and the one place that turns fractions to %.

Everywhere else a metric is a fraction in [0, 1] under its JSON name.
"""

from collections.abc import Mapping
from typing import Any

METRICS = {
    "peak_in_mask_accuracy": "PointM",
    "mean_iou": "mIoU",
    "overall_iou": "oIoU",
    "precision_at_50": "P@.5",
    "peak_in_box_accuracy": "PointIt",
    "box_accuracy": "box acc.",
}
"""JSON name -> the papers' name. The first four are the columns of every ordinary split."""

GENERALIZED_METRICS = {
    "generalized_mean_iou": "gIoU",
    "cumulative_iou": "cIoU",
    "no_target_accuracy": "N-acc",
    "target_accuracy": "T-acc",
    "precision_at_70": "P@.7",
    "precision_at_80": "P@.8",
    "precision_at_90": "P@.9",
    "adapted_mean_iou": "ad. mIoU",
    "negative_recall": "R_neg",
    "zero_sample_accuracy": "Acc",
}
"""The same for splits in which sentences mean several objects or none."""

STEPS = {
    "baseline_whole_image": "Baseline: whole image",
    "baseline_centre_disc": "Baseline: centre disc",
    "baseline_saliency": "Baseline: saliency",
    "response": "Stage 1: response maps",
    "prms": "  + PRMS",
    "merged": "  + merging",
    "labels": "  + CRF = labels",
    "segmenter_round1": "Stage 2: first round",
    "segmenter_round2": "Stage 2: second round",
    "segmenter": "Stage 2: segmenter",
    "segmenter_crf": "  + CRF at test",
    "ceiling_round1": "Ceiling: first round",
    "ceiling_round2": "Ceiling: second round",
    "ceiling": "Ceiling: true masks",
    "ceiling_crf": "  + CRF at test",
}
"""Key in ``metrics.json`` -> row title, in the order of the pipeline; see `step_title`."""

JOBS = {
    "pretrain": "Pretraining",
    "response": "Stage 1: response maps",
    "labels": "Pseudo-labels",
    "labels_log": "Pseudo-labels",
    "rounds/1/segmenter": "Stage 2: first round",
    "rounds/2/labels_log": "Pseudo-labels of the second round",
    "rounds/2/segmenter": "Stage 2: second round",
    "segmenter": "Stage 2: segmenter",
    "rounds/1/ceiling": "Ceiling: first round",
    "rounds/2/ceiling": "Ceiling: second round",
    "ceiling": "Ceiling: true masks",
    "evaluate": "Evaluation",
}
"""Folder of a run that holds a ``metrics.jsonl`` -> title, in the order of the pipeline.

A segmenter may have a folder of its own name.
"""


def step_title(step: str) -> str:
    """Return the row title of a key in ``metrics.json``.

    >>> step_title("ceiling_dmmi"), step_title("segmenter_grser")
    ('Ceiling: dmmi', 'Stage 2: grser')
    """
    if step in STEPS:
        return STEPS[step]
    kind, _, network = step.partition("_")
    titles = {"segmenter": "Stage 2", "ceiling": "Ceiling"}
    return f"{titles[kind]}: {network}" if kind in titles and network else step


StepMetrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""``metrics.json``: step -> split -> metric (or ``by_type`` -> type -> metric) -> fraction."""

_TITLES = METRICS | GENERALIZED_METRICS
_JSON_NAMES = {title: name for name, title in _TITLES.items()}


def percent(fraction: float) -> float:
    """Return a fraction as a percentage."""
    return 100.0 * fraction


def json_metric(key: str) -> str | None:
    """Return the JSON metric that a logged key stands for, or None for anything else.

    >>> json_metric("val/mean_iou"), json_metric("val/mIoU"), json_metric("train/loss")
    ('mean_iou', 'mean_iou', None)
    """
    last = key.rpartition("/")[2]
    return last if last in _TITLES else _JSON_NAMES.get(last)


def to_json_key(key: str) -> str:
    """Spell the metric of a logged key as in ``metrics.json``.

    >>> to_json_key("val/PointM")
    'val/peak_in_mask_accuracy'
    """
    metric = json_metric(key)
    prefix, slash, _ = key.rpartition("/")
    return key if metric is None else f"{prefix}{slash}{metric}"


def to_panel(key: str, value: float) -> tuple[str, float]:
    """Return the key and value that a dashboard shows: the papers' names, percentages.

    >>> to_panel("val/mean_iou", 0.5), to_panel("train/loss", 0.5)
    (('val/mIoU', 50.0), ('train/loss', 0.5))
    """
    metric = json_metric(key)
    if metric is None:
        return key, value
    prefix, slash, _ = key.rpartition("/")
    return f"{prefix}{slash}{_TITLES[metric]}", percent(value)
