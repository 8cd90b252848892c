"""HARIS on 110 real photographs, from scratch, a few steps.

Paper: Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation".
Command: make stage1 stage2 CONFIG=refcoco_mini SEGMENTER=haris DATA=folder
Cost: under a minute on two CPU cores.
Expected: nothing; see configs/refcoco_mini.py.
"""

import dataclasses

from configs.segmenter import haris_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.haris import HarisConfig


def get_config() -> SegmenterExperiment[HarisConfig]:
    """Return the embedded network with few steps."""
    base = haris_synthetic.get_config()
    return dataclasses.replace(
        base, training=dataclasses.replace(base.training, steps=40, evaluate_every=20)
    )


def get_debug_config() -> HarisConfig:
    """Return a tiny network of the same class, for tests: equation 5 as printed."""
    return dataclasses.replace(haris_synthetic.get_debug_config(), decoder="pixels")
