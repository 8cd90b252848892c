"""HARIS in miniature, for tests of the pipeline; frozen features are cached.

Paper: Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation".
Command: make stage1 stage2 CONFIG=debug SEGMENTER=haris
Cost: seconds.
Expected: nothing; see configs/debug.py.
"""

import dataclasses

from configs.segmenter import haris_synthetic
from configs.segmenter.tris_debug import INPUT
from tris.config import SegmenterExperiment
from tris.segmenters.haris import HarisConfig


def get_config() -> SegmenterExperiment[HarisConfig]:
    """Return the embedded network on smaller images, with few channels and steps."""
    base = haris_synthetic.get_config()
    return dataclasses.replace(
        base,
        network=dataclasses.replace(
            base.network, input_spec=INPUT, dim=32, decoder_layers=1, decoder_mlp_dim=32,
            cache_frozen_features=True,
        ),
        training=dataclasses.replace(
            base.training, global_batch_size=16, steps=24, precision="fp32", evaluate_every=12,
            log_every=2, select="mean_iou",
        ),
    )  # fmt: skip


def get_debug_config() -> HarisConfig:
    """Return a tiny network of the same class, for tests: the image tower learns."""
    return dataclasses.replace(haris_synthetic.get_debug_config(), image_encoder_trainable=True)
