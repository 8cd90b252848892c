"""TRIS on gRefCOCO (unc): sentences about one object, several, or none; from text alone.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 4.1,
for the recipe; He et al., "GRES: Generalized Referring Expression Segmentation" (CVPR 2023), for
the data. Every split is scored twice: as referring segmentation, and with gIoU, cIoU, N-acc and
T-acc (gres_val, gres_testA, gres_testB).
Command: make stage1 stage2 CONFIG=grefcoco_unc SEGMENTER=mabp DATA=folder
    (folder holds grefs(unc).json, instances.json, or grefcoco/ with these, and images/train2014/)
Cost: as configs/refcoco_unc.py, with about twice as many sentences.
Expected: nothing yet; not run so far, and nobody has published text-only figures.
"""

import dataclasses

from configs import refcoco_unc
from configs.segmenter import tris_grefcoco_unc
from tris.config import DataConfig, ExperimentConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the experiment on RefCOCO with gRefCOCO's files."""
    return dataclasses.replace(
        refcoco_unc.get_config(),
        name="grefcoco_unc",
        data=DataConfig(dataset="grefcoco"),
        segmenter=tris_grefcoco_unc.get_config(),
    )
