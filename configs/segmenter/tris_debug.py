"""TRIS segmentation network in miniature, for tests of the pipeline.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4.
Command: make stage1 stage2 CONFIG=debug
Cost: seconds.
Expected: nothing; see configs/debug.py.
"""

import dataclasses

from configs.segmenter import tris_synthetic_tris
from tris.config import SegmenterExperiment
from tris.segmenters.tris_net import TrisNetConfig

INPUT = dataclasses.replace(tris_synthetic_tris.INPUT, image_size=(64, 64))


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the embedded network on smaller images, with few channels and steps."""
    base = tris_synthetic_tris.get_config()
    return dataclasses.replace(
        base,
        network=dataclasses.replace(
            base.network, input_spec=INPUT, decoder_channels=(16, 16, 24, 32)
        ),
        training=dataclasses.replace(
            base.training, global_batch_size=16, steps=24, precision="fp32", evaluate_every=12,
            log_every=2, select="mean_iou",
        ),
    )  # fmt: skip


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return tris_synthetic_tris.get_debug_config()
