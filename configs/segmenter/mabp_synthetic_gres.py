"""MABP on the embedded data set, also on composed sentences: several objects, or none.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169);
network and schedule are those of configs/segmenter/mabp_synthetic.py.
Command: make stage1 stage2 CONFIG=synthetic_gres SEGMENTER=mabp
Cost: as configs/segmenter/mabp_synthetic.py.
Expected: nothing yet; not trained to the end so far.
"""

import dataclasses

from configs.segmenter import mabp_synthetic
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = mabp_synthetic.get_config()
    return dataclasses.replace(base, composition=CompositionConfig())


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return mabp_synthetic.get_debug_config()
