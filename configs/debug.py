"""The embedded data set in miniature: every step of the pipeline in seconds, for tests.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023).
Command: make stage1 stage2 CONFIG=debug
Cost: about half a minute on one CPU core.
Expected: nothing. 60 images and a few steps: losses fall, scores mean nothing.
"""

import dataclasses

from configs import synthetic_tris
from configs.segmenter import tris_debug
from configs.segmenter.tris_debug import INPUT
from tris.config import DataConfig, ExperimentConfig
from tris.data.synthetic import SyntheticConfig
from tris.encoders.clip import ClipConfig
from tris.segmenters.tris_net import TrisNetConfig
from tris.tracking.wandb_login import TrackingConfig

TINY_CLIP = ClipConfig(architecture="tris-small", pretrained="", input_spec=INPUT)


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the embedded recipe on few small images, a few steps of each stage."""
    base = synthetic_tris.get_config()
    assert base.pretrain is not None
    replace = dataclasses.replace
    return replace(
        base,
        name="debug",
        data=DataConfig(
            synthetic=SyntheticConfig(
                image_size=64, num_train_images=60, num_val_images=12, num_test_images=8
            ),
            evaluation_splits=("val",),
            cache_images=True,
        ),
        pretrain=replace(
            base.pretrain,
            encoder=TINY_CLIP,
            training=replace(
                base.pretrain.training, global_batch_size=12, steps=15, warmup_steps=2,
                precision="fp32", log_every=5,
            ),
        ),
        response=replace(
            base.response,
            network=replace(base.response.network, encoder=TINY_CLIP, input_spec=INPUT, dim=32),
            calibration=replace(
                base.response.calibration, encoder=TINY_CLIP, positive_weight=0.1,
                negative_weight=0.1,
            ),
            training=replace(
                base.response.training, global_batch_size=16, steps=24, precision="fp32",
                evaluate_every=12, log_every=2, select="mean_iou",
            ),
        ),
        segmenter=tris_debug.get_config(),
        tracking=TrackingConfig(tracking="none"),
    )  # fmt: skip
