"""TRIS segmentation network on 110 real photographs, from scratch, a few steps.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4.
Command: make stage1 stage2 CONFIG=refcoco_mini DATA=folder
Cost: under a minute on two CPU cores.
Expected: nothing; see configs/refcoco_mini.py.
"""

import dataclasses

from configs.segmenter import tris_synthetic_tris
from tris.config import SegmenterExperiment
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the embedded network with few steps."""
    base = tris_synthetic_tris.get_config()
    return dataclasses.replace(
        base, training=dataclasses.replace(base.training, steps=40, evaluate_every=20)
    )


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return tris_synthetic_tris.get_debug_config()
