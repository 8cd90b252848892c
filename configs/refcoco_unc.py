"""TRIS on RefCOCO (unc), the paper's setting.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 4.1.
Command: make stage1 stage2 CONFIG=refcoco_unc DATA=folder NPROC=1
    (folder holds refcoco/refs(unc).p, refcoco/instances.json and images/train2014/)
Cost: 15 epochs of 42,404 referents at batch 48 and 320 pixels in each stage; the paper used one
    RTX 3090 with 24 GB. Weights (OpenAI's RN50 and ViT-B/32) are fetched by open_clip once.
Expected, Table 1 (mean IoU / PointM): stage 1 val 25.11 / 51.92, testA 26.47 / 60.88,
    testB 23.80 / 43.02; stage 2 val 31.17 / 54.72, testA 32.43 / 65.64, testB 29.56 / 43.40.
    With PRMS (Table 4): val 25.90.
"""

from configs.segmenter import tris_refcoco_unc
from tris.config import DataConfig, ExperimentConfig, LabelExperiment, ResponseExperiment
from tris.pseudo.label import LabelConfig
from tris.pseudo.prms import PrmsConfig
from tris.segmenters.tris_net import TrisNetConfig
from tris.training.settings import TrainingConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the experiment: the released settings, but for what `docs/fidelity.md` lists."""
    return ExperimentConfig(
        name="refcoco_unc",
        data=DataConfig(),
        response=ResponseExperiment(training=TrainingConfig(precision="auto")),
        labels=LabelExperiment(selection=PrmsConfig(), label=LabelConfig()),
        segmenter=tris_refcoco_unc.get_config(),
    )
