"""MABP on the labels of the paper's recipe of stage 1, without place words.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169);
everything else as in configs/segmenter/mabp_synthetic.py.
Command: make stage1 stage2 CONFIG=synthetic_tris SEGMENTER=mabp
Cost: as configs/segmenter/mabp_synthetic.py.
Expected: docs/segmenters.md, as far as it has been trained.
"""

import dataclasses

from configs.segmenter import mabp_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = mabp_synthetic.get_config()
    return dataclasses.replace(
        base, network=dataclasses.replace(base.network, has_place_words=False)
    )


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return dataclasses.replace(mabp_synthetic.get_debug_config(), has_place_words=False)
