"""Scores where sentences mean several objects or none: gRefCOCO's splits, and image groups."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from stages.setup import Folders
from tris.config import ExperimentConfig
from tris.data.index import Index, expression_kinds, open_index
from tris.metrics.protocols import PROTOCOLS, ScoringProtocol
from tris.metrics.summary import summarise

Rows = Int64[np.ndarray, "expr columns"]
REPORTED = (
    "generalized_mean_iou",
    "cumulative_iou",
    "no_target_accuracy",
    "target_accuracy",
    "precision_at_70",
    "precision_at_80",
    "precision_at_90",
    "adapted_mean_iou",
    "negative_recall",
    "zero_sample_accuracy",
    "mean_iou",
    "overall_iou",
)
DATASETS = ("grefcoco", "ref-zom")
"""Data sets whose own splits hold such sentences."""


def generalized_splits(
    config: ExperimentConfig[Any], folders: Folders
) -> Iterator[tuple[str, Index, ScoringProtocol]]:
    """Yield name, index and protocol of every such split that the run has.

    Of the embedded data set ``gres_val``, ``gres_testA``, ``groups_val`` and ``groups_test``, where
    the segmenter learns from composed sentences; of gRefCOCO and Ref-ZOM every split again, as
    ``gres_`` and its name; gRefCOCO's three, too, where they are scored besides another data set's
    (`DataConfig.also_scores_grefcoco`). Ref-ZOM is scored as its paper does, where only a mask
    without a pixel says "nothing here".
    """
    area = config.evaluation.minimum_area
    gres = generalized_protocol(config)
    groups = replace(PROTOCOLS["grser"], no_target_by="either", minimum_area=area)
    if config.data.dataset in DATASETS:
        for split in config.data.evaluation_splits:
            yield f"gres_{split}", open_index(folders.index, split), gres
    if config.data.also_scores_grefcoco:
        for split in ("val", "testA", "testB"):
            yield f"gres_{split}", open_index(folders.index_gres, split), gres
    synthetic, composition = config.data.synthetic, config.segmenter.composition
    if synthetic is not None and synthetic.gres is not None and composition is not None:
        for split in ("val", "testA"):
            yield f"gres_{split}", open_index(folders.index_gres, split), gres
        for split in ("val", "test"):
            yield f"groups_{split}", open_index(folders.index_groups, split), groups


def generalized_protocol(config: ExperimentConfig[Any]) -> ScoringProtocol:
    """Return the rules for sentences about one object, several or none."""
    if config.data.dataset == "ref-zom":
        return PROTOCOLS["refzom"]
    return replace(PROTOCOLS["mabp"], minimum_area=config.evaluation.minimum_area)


def is_generalized(config: ExperimentConfig[Any], index: Index) -> bool:
    """Say whether a split of the experiment's own data is scored by these rules, too."""
    return config.data.dataset in DATASETS or index.facts.no_target > 0


def summarise_generalized(rows: Rows, index: Index, protocol: ScoringProtocol) -> dict[str, Any]:
    """Return the metrics of all expressions, and of each type, or kind: single, multi, none."""
    return summarise(rows, expression_kinds(index), names=REPORTED, protocol=protocol)
