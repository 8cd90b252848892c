"""The embedded data set with all that goes beyond the paper: labels that compete, words of place.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), with these
departures, each a switch: stage 1 learns from images with all their sentences instead of random
pairs and without calibration; the maps of a referent are merged by how well they fit its sentences;
the referents of an image share one CRF; stage 2 as in configs/segmenter/tris_synthetic_beyond.py.
The merging was chosen on the validation split (benchmarks/competing_labels.py).
Command: make stage1 stage2 CONFIG=synthetic_beyond
Cost: docs/beyond.md.
Expected: the table in docs/beyond.md.
"""

import dataclasses

from configs import synthetic
from configs.segmenter import tris_synthetic_beyond
from tris.config import EvaluationConfig, ExperimentConfig, LabelExperiment
from tris.pseudo.label import EMBEDDED_LABELS, EMBEDDED_SEGMENTER_LABELS
from tris.pseudo.prms import PrmsConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the experiment."""
    base, replace = synthetic.get_config(), dataclasses.replace
    return replace(
        base,
        name="synthetic_beyond",
        response=replace(
            base.response,
            calibration=replace(
                base.response.calibration, positive_weight=0.0, negative_weight=0.0
            ),
            training=replace(
                base.response.training, sampling="images", global_batch_size=24,
                sentences_per_image=0, steps=800, evaluate_every=400,
            ),
        ),
        labels=LabelExperiment(
            selection=PrmsConfig(
                activation="sigmoid", method="margin", temperature=0.05, rival_weight=0.0
            ),
            label=replace(EMBEDDED_LABELS, competition="image"),
        ),
        segmenter=tris_synthetic_beyond.get_config(),
        self_training=replace(base.self_training, label=EMBEDDED_SEGMENTER_LABELS),
        evaluation=EvaluationConfig(crf=True, refinement=EMBEDDED_LABELS),
    )  # fmt: skip
