"""HARIS on the labels of the paper's recipe of stage 1, without place words.

Paper: Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation";
everything else as in configs/segmenter/haris_synthetic.py.
Command: make stage1 stage2 CONFIG=synthetic_tris SEGMENTER=haris
Cost: as configs/segmenter/haris_synthetic.py.
Expected: docs/segmenters.md, as far as it has been trained.
"""

import dataclasses

from configs.segmenter import haris_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.haris import HarisConfig


def get_config() -> SegmenterExperiment[HarisConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = haris_synthetic.get_config()
    return dataclasses.replace(
        base, network=dataclasses.replace(base.network, has_place_words=False)
    )


def get_debug_config() -> HarisConfig:
    """Return a tiny network of the same class, for tests."""
    return dataclasses.replace(haris_synthetic.get_debug_config(), has_place_words=False)
