"""MABP on 110 real photographs, from scratch, a few steps.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169).
Command: make stage1 stage2 CONFIG=refcoco_mini SEGMENTER=mabp DATA=folder
Cost: about three minutes on one CPU core, two other trainings beside it.
Expected: nothing; see configs/refcoco_mini.py.
"""

import dataclasses

from configs.segmenter import mabp_synthetic
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the embedded network with few steps, and sentences composed as on photographs."""
    base = mabp_synthetic.get_config()
    return dataclasses.replace(
        base,
        training=dataclasses.replace(base.training, steps=40, evaluate_every=20),
        composition=CompositionConfig(),
    )


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return mabp_synthetic.get_debug_config()
