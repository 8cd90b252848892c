"""Masks of a segmenter after a dense CRF, sentence by sentence; not the evaluators' doing."""

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from tris.data.images import read_photograph
from tris.data.index import Index
from tris.metrics.evaluator import Prediction
from tris.pseudo.label import LabelConfig, PseudoLabel
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.rivals import separate_contests


def refine_predictions(
    predictions: Iterable[Prediction], index: Index, config: LabelConfig, *, num_workers: int
) -> Iterator[tuple[Prediction, PseudoLabel]]:
    """Yield each prediction with its refined mask, in order; the prediction stays as it is.

    Each sentence's mask is inferred by itself, for a sentence of a test stands alone; those of one
    image share the kernels.

    Args:
        predictions: Maps in original pixels; those of one image come one after the other.
        index: The split that they are of.
        config: The CRF; what it says of degenerate labels and competition is not read.
        num_workers: Processes; 0 refines in this one.
    """
    rule = dataclasses.replace(config, degenerate="keep", competition="none")
    with LabelPool(rule, num_workers) as pool:
        for group, labels in pool.refine_images(_make_tasks(predictions, index)):
            for place, each in enumerate(group):
                yield each, labels[place]


def _make_tasks(predictions: Iterable[Prediction], index: Index) -> Iterator[ImageTask]:
    for path, of_image in groupby(predictions, lambda each: index.image_path(each.referent)):
        group = list(of_image)
        photograph = read_photograph(path, is_turned=group[0].referent.is_turned)
        maps = np.stack([each.response for each in group])
        alone = separate_contests(len(group))
        yield ImageTask(group, maps, np.array(photograph, np.uint8), alone)
