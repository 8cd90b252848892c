"""The embedded data set with sentences about several objects and about none, from text alone.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169) for task and metrics; the training sentences are composed of single
ones (`tris.data.compose`), since nobody annotated any. Every object has sentences, unlike in
configs/synthetic.py: of an image with an unnamed circle neither "both circles" nor a sentence that
is to mean nothing could be composed in good faith. Scored besides the
ordinary splits: gres_val and gres_testA in gRefCOCO's form, groups_val and groups_test in that of
GRSer's groups.
Command: make stage1 stage2 CONFIG=synthetic_gres SEGMENTER=mabp
Cost: as configs/synthetic.py.
Expected: docs/segmenters.md, "Several targets, and none".
"""

import dataclasses

from configs import synthetic
from configs.segmenter import tris_synthetic_gres
from tris.config import ExperimentConfig
from tris.data.synthetic_gres import WORDS, GresConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the embedded recipe with words for counting, and the splits for scoring."""
    base, replace = synthetic.get_config(), dataclasses.replace
    assert base.pretrain is not None
    assert base.data.synthetic is not None
    return replace(
        base,
        name="synthetic_gres",
        data=replace(
            base.data, synthetic=replace(base.data.synthetic, unnamed_share=0.0, gres=GresConfig())
        ),
        pretrain=replace(base.pretrain, extra_words=WORDS),
        evaluation=replace(base.evaluation, minimum_area=2),  # 50 of 480 x 480 pixels, in 96 x 96
        segmenter=tris_synthetic_gres.get_config(),
    )
