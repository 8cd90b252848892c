"""TRIS segmentation network on RefCOCO (unc), the paper's setting.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4.
Command: make stage1 stage2 CONFIG=refcoco_unc DATA=...
Cost: 142 M parameters, 320 x 320 pixels, batch 48, 15 epochs; the paper used one RTX 3090 (24 GB).
Expected, Table 1, trained on text alone (IoU = mean IoU / PointM):
val 31.17 / 54.72, testA 32.43 / 65.64, testB 29.56 / 43.40.
"""

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.config import SegmenterExperiment
from tris.segmenters.tris_net import TrisNetConfig
from tris.training.settings import TrainingConfig


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the published network, started from OpenAI's CLIP.

    The released schedule is stepped once an epoch while it counts iterations: a constant rate.
    """
    return SegmenterExperiment(
        network=TrisNetConfig(), training=TrainingConfig(schedule="constant", precision="auto")
    )


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return TrisNetConfig(
        encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, decoder_channels=(8, 12, 16, 20)
    )
