"""MABP on the embedded data set, scored on sentences about several objects and none, too.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169);
network and schedule are those of configs/segmenter/mabp_synthetic.py, composition that of the TRIS
network: all objects of a kind are counted, too.
Command: make stage1 stage2 CONFIG=synthetic_gres SEGMENTER=mabp
Cost: as configs/segmenter/mabp_synthetic.py.
Expected: docs/segmenters.md, "Several targets, and none".
"""

import dataclasses

from configs.segmenter import mabp_synthetic
from configs.segmenter.tris_synthetic_gres import COMPOSITION
from tris.config import SegmenterExperiment
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return dataclasses.replace(mabp_synthetic.get_config(), composition=COMPOSITION)


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return mabp_synthetic.get_debug_config()
