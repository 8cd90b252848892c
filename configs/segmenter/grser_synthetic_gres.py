"""GRSer on the embedded data set, also on composed sentences: several objects, or none.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image"
(arXiv 2305.12452);
network and schedule are those of configs/segmenter/grser_synthetic.py.
Command: make stage1 stage2 CONFIG=synthetic_gres SEGMENTER=grser
Cost: 800 steps of 32 pairs in 20 minutes on one core without AVX-512, another training beside it;
    on two idle ones 0.89 s a step (forward and backward), 12 minutes.
Expected: docs/segmenters.md, "Several targets, and none".
"""

import dataclasses

from configs.segmenter import grser_synthetic
from configs.segmenter.tris_synthetic_gres import COMPOSITION
from tris.config import SegmenterExperiment
from tris.segmenters.grser import GrserConfig


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = grser_synthetic.get_config()
    missed = COMPOSITION.clip_missed_share
    grouping = dataclasses.replace(base.grouping, clip_missed_share=missed)
    return dataclasses.replace(base, composition=COMPOSITION, grouping=grouping)


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return grser_synthetic.get_debug_config()
