"""MABP on the embedded data set, also on composed sentences: several objects, or none.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169);
network and schedule are those of configs/segmenter/mabp_synthetic.py, with the no-target branch,
in which sentences that mean nothing weigh 3 (released: 1.1): a ninth of so few samples would teach
it too little.
Command: make stage1 stage2 CONFIG=synthetic_gres SEGMENTER=mabp
Cost: 800 steps of 24 in 25 minutes on one core without AVX-512, another training beside it; on two
    idle ones 1.09 s a step (forward and backward), 15 minutes.
Expected: docs/segmenters.md, "Several targets, and none".
"""

import dataclasses

from configs.segmenter import mabp_synthetic
from configs.segmenter.tris_synthetic_gres import COMPOSITION
from tris.config import SegmenterExperiment
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base, replace = mabp_synthetic.get_config(), dataclasses.replace
    return replace(
        base,
        composition=COMPOSITION,
        network=replace(
            base.network,
            decoder=replace(base.network.decoder, num_no_target_heads=4),
            losses=replace(base.network.losses, no_target_class_weight=3.0),
        ),
    )


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return mabp_synthetic.get_debug_config()
