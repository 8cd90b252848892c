"""MABP on RefCOCO (unc), also on composed sentences: several objects, or none.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169);
network and schedule are those of configs/segmenter/mabp_grefcoco_unc.py.
Command: make stage1 stage2 CONFIG=refcoco_gres_unc SEGMENTER=mabp DATA=folder
Cost: as configs/segmenter/mabp_grefcoco_unc.py.
Expected: nothing yet; see configs/refcoco_gres_unc.py.
"""

import dataclasses

from configs.segmenter import mabp_grefcoco_unc
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the published network; which weights are best on sentences about one says little."""
    base = mabp_grefcoco_unc.get_config()
    training = dataclasses.replace(base.training, select="last")
    return dataclasses.replace(base, training=training, composition=CompositionConfig())


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return mabp_grefcoco_unc.get_debug_config()
