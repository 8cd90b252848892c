"""TRIS segmentation network on gRefCOCO (unc).

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4;
network and schedule are those of configs/segmenter/tris_refcoco_unc.py, the weights with the best
gIoU on val are delivered.
Command: make stage1 stage2 CONFIG=grefcoco_unc DATA=folder
Cost: as configs/segmenter/tris_refcoco_unc.py, with about twice as many sentences.
Expected: nothing yet; it has no head that says "nothing fits", an empty mask has to say it.
"""

import dataclasses

from configs.segmenter import tris_refcoco_unc
from tris.config import SegmenterExperiment
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the published network, started from OpenAI's CLIP."""
    base = tris_refcoco_unc.get_config()
    training = dataclasses.replace(base.training, select="generalized_mean_iou")
    return dataclasses.replace(base, training=training)


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return tris_refcoco_unc.get_debug_config()
