"""The embedded data set with sentences about several objects and about none, from text alone.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169) for task and metrics; the training sentences are composed of single
ones (`tris.data.compose`), since nobody annotated any. Stage 1 and labels as in
configs/synthetic.py, but that every object has sentences: of an image with an unnamed circle "both
circles" is composed in good faith and wrong now and then. Stage 2 is that of
configs/segmenter/tris_synthetic_tris.py (one round of random pairs, no place words), and composes,
too. Scored besides the ordinary
splits, as wherever a segmenter composes: gres_val and gres_testA in gRefCOCO's form, groups_val and
groups_test in that of GRSer's groups.
Command: make stage1 stage2 CONFIG=synthetic_gres SEGMENTER=mabp
Cost: stage 1 and labels as configs/synthetic.py, stage 2 as configs/synthetic_tris.py.
Expected: docs/segmenters.md, "Several targets, and none".
"""

import dataclasses

from configs import synthetic
from configs.segmenter import tris_synthetic_gres
from tris.config import ExperimentConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the embedded recipe on scenes whose objects all have sentences."""
    base, replace = synthetic.get_config(), dataclasses.replace
    return replace(
        base,
        name="synthetic_gres",
        data=replace(base.data, synthetic=replace(synthetic.SCENES, unnamed_share=0.0)),
        segmenter=tris_synthetic_gres.get_config(),
    )
