"""MABP on RefCOCO (unc), the paper's setting.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169), section IV-B, Table I.
Command: make stage1 stage2 CONFIG=refcoco_unc SEGMENTER=mabp DATA=folder
Cost: as configs/segmenter/mabp_grefcoco_unc.py; RefCOCO has half as many referents.
Expected, Table I, trained on annotated masks (cIoU): val 74.48, testA 76.73, testB 71.07.
    The released network for this data has no no-target branch: nothing here lacks a target.
"""

import dataclasses

from configs.segmenter import mabp_grefcoco_unc
from tris.config import SegmenterExperiment
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the published network for sentences that always have one target."""
    base = mabp_grefcoco_unc.get_config()
    decoder = dataclasses.replace(base.network.decoder, num_no_target_heads=0)
    return dataclasses.replace(
        base,
        network=dataclasses.replace(base.network, decoder=decoder),
        training=dataclasses.replace(base.training, select="mean_iou"),
    )


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    base = mabp_grefcoco_unc.get_debug_config()
    return dataclasses.replace(
        base, decoder=dataclasses.replace(base.decoder, num_no_target_heads=0)
    )
