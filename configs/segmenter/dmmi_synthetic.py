"""DMMI on the embedded data set, from scratch on one CPU core.

Paper: Hu et al., "Beyond One-to-One: Rethinking the Referring Image Segmentation" (ICCV 2023), with
the departures that a small network without pretraining needs: both encoders start from stage 1's
CLIP and learn at 0.3 of the rate, the decoder reads the fused features (as with ResNet), the
pixel's coordinates, stage 1's frozen response and place words join its input, foreground pixels
weigh 3 (objects cover a few percent of an image), no dropout. Width 128, that of the words.
Command: make stage1 stage2 SEGMENTER=dmmi
Cost: 3.9 M trained parameters, 96 x 96 pixels, batch 16, 500 steps: 6 minutes on one core.
Expected: docs/segmenters.md (three seeds).
"""

import dataclasses

from configs.segmenter import tris_synthetic_tris
from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.batch import PhraseErasing
from tris.config import SegmenterExperiment
from tris.encoders.vision_language import VisionLanguageConfig
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.dmmi import DmmiConfig
from tris.training.settings import TrainingConfig

INPUT = dataclasses.replace(tris_synthetic_tris.INPUT, erases_phrases=PhraseErasing())


def get_config() -> SegmenterExperiment[DmmiConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return SegmenterExperiment(
        network=DmmiConfig(
            encoder=VisionLanguageConfig(vision="clip", words="clip"),
            input_spec=INPUT,
            starts_from_stage1=True,
            skips="fused",
            num_heads=4,
            feedforward_dim=256,
            dropout=0.0,
            class_weights=(1.0, 3.0),
            encoder_learning_rate_scale=0.3,
            has_coordinate_input=True,
            has_response_input=True,
            has_place_words=True,
        ),
        training=TrainingConfig(
            global_batch_size=16, steps=500, learning_rate=1e-3, precision="auto", num_workers=0,
            attention="plain", evaluate_every=250, select="last",
        ),
        name="dmmi",
    )  # fmt: skip


def get_debug_config() -> DmmiConfig:
    """Return a tiny network of the same class, for tests."""
    return DmmiConfig(
        encoder=VisionLanguageConfig(vision="clip", words="clip", clip=DEBUG_CLIP),
        input_spec=DEBUG_INPUT,
        skips="fused",
        regions=(1, 3),
        windows=(1, 2),
        num_heads=4,
        feedforward_dim=32,
        dropout=0.0,
        class_weights=(1.0, 1.0),
        has_coordinate_input=True,
        has_response_input=True,
        has_place_words=True,
        response=ResponseNetConfig(encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, dim=16),
    )
