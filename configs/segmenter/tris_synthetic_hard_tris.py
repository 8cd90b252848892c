"""TRIS segmentation network on the harder embedded data set, the paper's recipe.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4;
network and schedule are those of configs/segmenter/tris_synthetic_tris.py.
Command: make stage1 stage2 CONFIG=synthetic_hard_tris
Cost: as configs/segmenter/tris_synthetic_tris.py.
Expected: docs/beyond.md, "Harder scenes".
"""

from configs.segmenter import tris_synthetic_tris
from tris.config import SegmenterExperiment
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return tris_synthetic_tris.get_config()


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return tris_synthetic_tris.get_debug_config()
