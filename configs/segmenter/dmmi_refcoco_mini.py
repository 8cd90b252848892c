"""DMMI on 110 real photographs, from scratch, a few steps.

Paper: Hu et al., "Beyond One-to-One: Rethinking the Referring Image Segmentation" (ICCV 2023).
Command: make stage1 stage2 CONFIG=refcoco_mini SEGMENTER=dmmi DATA=folder
Cost: under a minute on one CPU core.
Expected: nothing; see configs/refcoco_mini.py.
"""

import dataclasses

from configs.segmenter import dmmi_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.dmmi import DmmiConfig


def get_config() -> SegmenterExperiment[DmmiConfig]:
    """Return the embedded network with few steps."""
    base = dmmi_synthetic.get_config()
    return dataclasses.replace(
        base, training=dataclasses.replace(base.training, steps=40, evaluate_every=20)
    )


def get_debug_config() -> DmmiConfig:
    """Return a tiny network of the same class, for tests."""
    return dmmi_synthetic.get_debug_config()
