"""Masks of a segmenter after a dense CRF, sentence by sentence; not the evaluators' doing."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from tris.data.images import read_photograph
from tris.data.index import Index
from tris.metrics.evaluator import Prediction
from tris.pseudo.crf import CrfConfig
from tris.pseudo.label import LabelConfig, PseudoLabel
from tris.pseudo.label_presets import SEGMENTER_LABELS
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.rivals import separate_contests


@dataclass(frozen=True)
class RefinementConfig:
    """What of a label rule acts on the mask of a sentence that stands alone.

    The defaults are those of `tris.pseudo.label_presets.SEGMENTER_LABELS`.

    Attributes:
        normalisation: What the map is read as: ``max`` = rectified and divided by its maximum;
            ``sigmoid`` = a probability, sigmoid of the logit.
        working_size: Longest side at which the CRF works, pixels; smaller photographs are not
            enlarged, the mask has the photograph's size again. None = the photograph's own.
        components: ``highest`` = of a mask the connected component (8 neighbours) stays in which
            its map is highest; not for sentences about several objects. ``all`` = every one stays.
        crf: Unary and kernels; reaches are in pixels of the working size.
    """

    normalisation: Literal["max", "sigmoid"] = "sigmoid"
    working_size: int | None = 320
    components: Literal["all", "highest"] = "all"
    crf: CrfConfig = SEGMENTER_LABELS.crf

    def __post_init__(self) -> None:
        """Check the fields."""
        self.label_rule()

    def label_rule(self) -> LabelConfig:
        """Return the label rule by which a map becomes a mask of 0 and 1."""
        return LabelConfig(
            normalisation=self.normalisation,
            foreground_threshold=self.crf.threshold,
            degenerate="keep",
            working_size=self.working_size,
            crf=self.crf,
            components=self.components,
        )


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
