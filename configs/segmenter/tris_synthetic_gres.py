"""TRIS network on the embedded data set, also on composed sentences: several objects, or none.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023);
network and schedule are those of configs/segmenter/tris_synthetic_tris.py.
Command: make stage1 stage2 CONFIG=synthetic_gres
Cost: 900 steps of 32 in 16 minutes on one core without AVX-512, another training beside it.
Expected: docs/segmenters.md, "Several targets, and none".
"""

import dataclasses

from configs.segmenter import tris_synthetic_tris
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.segmenters.tris_net import TrisNetConfig

COMPOSITION = CompositionConfig(brief_share=0.5, counted_share=0.4, clip_missed_share=1.0)
"""Every object has sentences, so a kind can be counted, and what an image's own sentences say
refuses whatever may be true of it; CLIP, asked as well, would refuse the near misses."""


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = tris_synthetic_tris.get_config()
    return dataclasses.replace(base, composition=COMPOSITION)


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return tris_synthetic_tris.get_debug_config()
