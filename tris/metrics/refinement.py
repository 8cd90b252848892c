"""Masks of a segmenter after a dense CRF, sentence by sentence; not the evaluators' doing."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from tris.data.images import read_photograph
from tris.data.index import Index
from tris.metrics.evaluator import Prediction
from tris.pseudo.label import LabelConfig, PseudoLabel
from tris.pseudo.pool import LabelPool, LabelTask


def refine_predictions(
    predictions: Iterable[Prediction], index: Index, config: LabelConfig, *, num_workers: int
) -> Iterator[tuple[Prediction, PseudoLabel]]:
    """Yield each prediction with its refined mask, in order; the prediction stays as it is.

    Each sentence's mask has a CRF of its own, for a sentence of a test stands alone.

    Args:
        predictions: Maps in original pixels; those of one image come one after the other.
        index: The split that they are of.
        config: The CRF; what it says of degenerate labels and competition is not read.
        num_workers: Processes; 0 refines in this one.
    """
    rule = dataclasses.replace(config, degenerate="keep", competition="none")
    with LabelPool(rule, num_workers) as pool:
        yield from pool.refine(_make_tasks(predictions, index))


def _make_tasks(predictions: Iterable[Prediction], index: Index) -> Iterator[LabelTask]:
    path, photograph = None, np.zeros((0, 0, 3), np.uint8)
    for each in predictions:
        if index.image_path(each.referent) != path:
            path = index.image_path(each.referent)
            opened = read_photograph(path, is_turned=each.referent.is_turned)
            photograph = np.array(opened, np.uint8)
        yield LabelTask(each, each.response, photograph)
