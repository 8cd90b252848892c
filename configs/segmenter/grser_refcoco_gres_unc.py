"""GRSer on RefCOCO (unc), also on composed sentences: several objects, or none.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image" (ICCV 2023);
network and schedule are those of configs/segmenter/grser_refcoco_unc.py; half of the groups are
taken apart, and sentences that stand alone are composed.
Command: make stage1 stage2 CONFIG=refcoco_gres_unc SEGMENTER=grser DATA=folder
Cost: as configs/segmenter/grser_refcoco_unc.py.
Expected: nothing yet; see configs/refcoco_gres_unc.py.
"""

import dataclasses

from configs.segmenter import grser_refcoco_unc
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.data.group_sources import GroupingConfig
from tris.segmenters.grser import GrserConfig


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the published network; which weights are best on sentences about one says little."""
    base = grser_refcoco_unc.get_config()
    training = dataclasses.replace(base.training, select="last")
    return dataclasses.replace(
        base, training=training, composition=CompositionConfig(),
        grouping=GroupingConfig(alone_share=0.5),
    )  # fmt: skip


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return grser_refcoco_unc.get_debug_config()
