"""Generalized segmentation from text alone: RefCOCO's sentences, scored on gRefCOCO's.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 4.1,
for stage 1 and labels; He et al., "GRES: Generalized Referring Expression Segmentation" (CVPR
2023), for the data that is scored. Whether a sentence means several objects or none is annotation,
too: what CONFIG=grefcoco_unc reads off gRefCOCO's training split is composed here.
Command: make stage1 stage2 CONFIG=refcoco_gres_unc SEGMENTER=mabp DATA=folder
    (folder holds refcoco/ and grefcoco/ with their official files, and images/train2014/)
Cost: as configs/refcoco_unc.py.
Expected: nothing yet; not run so far, and nobody has published such figures. With annotated masks
    and sentences MABP reports 68.79 gIoU on val.
"""

import dataclasses

from configs import refcoco_unc
from configs.segmenter import tris_refcoco_gres_unc
from tris.config import ExperimentConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the experiment on RefCOCO, with gRefCOCO's splits besides."""
    base = refcoco_unc.get_config()
    return dataclasses.replace(
        base,
        name="refcoco_gres_unc",
        data=dataclasses.replace(base.data, also_scores_grefcoco=True),
        segmenter=tris_refcoco_gres_unc.get_config(),
    )
