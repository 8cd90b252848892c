"""HARIS on the embedded data set, from scratch on one CPU core.

Paper: Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation", with the
departures that small data without pretrained weights needs: the frozen encoders are the two towers
of the CLIP that stage 1 trained (a random SAM would see nothing), read at the finest level's size
(24 x 24 cells; objects are a few cells large); stage 1's frozen response, the pixel's coordinates
(that tower knows no places) and place words join the visual features; words gather pixels by
weights that sum to one; 64 channels, 2 decoder layers, a rate of 1e-3.
Command: make stage1 stage2 SEGMENTER=haris
Cost: 0.49 M trainable parameters, 96 x 96 pixels, batch 32, 500 steps: 6 minutes on one core.
Expected: docs/segmenters.md (three seeds).
"""

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from configs.segmenter.tris_synthetic_tris import INPUT
from tris.config import SegmenterExperiment
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.haris import HarisConfig
from tris.training.settings import TrainingConfig


def get_config() -> SegmenterExperiment[HarisConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return SegmenterExperiment(
        network=HarisConfig(
            image_encoder="clip",
            input_spec=INPUT,
            clip_levels=(1, 3, 4),
            clip_grid_level=1,
            starts_from_stage1=True,
            has_response_input=True,
            has_place_words=True,
            dim=64,
            decoder_layers=2,
            decoder_heads=4,
            decoder_mlp_dim=128,
            dropout=0.0,
            pixel_weights="mean",
            has_coordinate_input=True,
        ),
        training=TrainingConfig(
            global_batch_size=32, steps=500, learning_rate=1e-3, warmup_steps=50,
            clip_norm=1.0, precision="auto", num_workers=0, evaluate_every=250, select="last",
        ),
        name="haris",
    )  # fmt: skip


def get_debug_config() -> HarisConfig:
    """Return a tiny network of the same class, for tests."""
    return HarisConfig(
        image_encoder="clip",
        clip=DEBUG_CLIP,
        input_spec=DEBUG_INPUT,
        clip_levels=(1, 3, 4),
        has_response_input=True,
        has_place_words=True,
        response=ResponseNetConfig(encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, dim=16),
        dim=16,
        decoder_layers=1,
        decoder_heads=2,
        decoder_mlp_dim=32,
        pixel_weights="mean",
        has_coordinate_input=True,
    )
