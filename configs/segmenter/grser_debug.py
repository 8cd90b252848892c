"""GRSer in miniature, for tests of the pipeline.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image" (ICCV 2023).
Command: make stage1 stage2 CONFIG=debug SEGMENTER=grser
Cost: seconds.
Expected: nothing; see configs/debug.py.
"""

import dataclasses

from configs.segmenter import grser_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.grser import GrserConfig

INPUT = dataclasses.replace(grser_synthetic.INPUT, image_size=(64, 64), group_size=4)


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the embedded network on smaller images, with few channels and steps."""
    base = grser_synthetic.get_config()
    return dataclasses.replace(
        base,
        network=dataclasses.replace(
            base.network, input_spec=INPUT, feature_channels=32, decoder_channels=(16, 16),
            embedding_channels=32,
        ),
        training=dataclasses.replace(
            base.training, global_batch_size=16, steps=24, precision="fp32", evaluate_every=12,
            log_every=2, select="mean_iou",
        ),
    )  # fmt: skip


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return grser_synthetic.get_debug_config()
