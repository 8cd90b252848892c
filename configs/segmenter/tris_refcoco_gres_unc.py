"""TRIS segmentation network on RefCOCO (unc), also on composed sentences: several objects, or none.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4;
network and schedule are those of configs/segmenter/tris_refcoco_unc.py.
Command: make stage1 stage2 CONFIG=refcoco_gres_unc DATA=folder
Cost: as configs/segmenter/tris_refcoco_unc.py.
Expected: nothing yet; see configs/refcoco_gres_unc.py.
"""

import dataclasses

from configs.segmenter import tris_refcoco_unc
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the published network; which weights are best on sentences about one says little."""
    base = tris_refcoco_unc.get_config()
    training = dataclasses.replace(base.training, select="last")
    return dataclasses.replace(base, training=training, composition=CompositionConfig())


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return tris_refcoco_unc.get_debug_config()
