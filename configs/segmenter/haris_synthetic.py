"""HARIS on the embedded data set, from scratch on one CPU core.

Paper: Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation", with the
departures that small data without pretrained weights needs: the frozen encoders are the two towers
of the CLIP that stage 1 trained (a random SAM would see nothing), the pixel's coordinates join the
visual features (that tower knows no places), words gather pixels by weights that sum to one, 96
channels, 2 decoder layers, and a rate of 1e-3.
Command: make stage1 stage2 SEGMENTER=haris
Cost: 96 x 96 pixels, batch 32, 900 steps.
Expected: docs/segmenters.md.
"""

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from configs.segmenter.tris_synthetic import INPUT
from tris.config import SegmenterExperiment
from tris.segmenters.haris import HarisConfig
from tris.training.settings import TrainingConfig


def get_config() -> SegmenterExperiment[HarisConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return SegmenterExperiment(
        network=HarisConfig(
            image_encoder="clip",
            input_spec=INPUT,
            starts_from_stage1=True,
            dim=96,
            decoder_layers=2,
            decoder_heads=4,
            decoder_mlp_dim=192,
            dropout=0.0,
            pixel_weights="mean",
            has_coordinate_input=True,
        ),
        training=TrainingConfig(
            global_batch_size=32, steps=900, learning_rate=1e-3, precision="auto", num_workers=0,
            evaluate_every=300, select="last",
        ),
        name="haris",
    )  # fmt: skip


def get_debug_config() -> HarisConfig:
    """Return a tiny network of the same class, for tests."""
    return HarisConfig(
        image_encoder="clip",
        clip=DEBUG_CLIP,
        input_spec=DEBUG_INPUT,
        dim=16,
        decoder_layers=1,
        decoder_heads=2,
        decoder_mlp_dim=32,
        pixel_weights="mean",
        has_coordinate_input=True,
    )
