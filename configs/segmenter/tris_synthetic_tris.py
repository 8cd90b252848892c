"""TRIS segmentation network on the embedded data set, the paper's recipe.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4,
with four departures that a small network without pretraining needs: both towers start from stage 1,
stage 1's frozen response and the pixel's coordinates join the decoder's input, foreground pixels
weigh 1.5 (objects cover a few percent of an image), and the towers learn at 0.3 of the rate.
Command: make stage1 stage2 CONFIG=synthetic_tris
Cost: 1.4 M trainable parameters, 96 x 96 pixels, batch 32, 900 steps.
Expected: docs/beyond.md, table of the paper's recipe.
"""

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.batch import InputSpec, TokenizerConfig
from tris.config import SegmenterExperiment
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.tris_net import TrisNetConfig
from tris.training.settings import TrainingConfig

INPUT = InputSpec(
    image_size=(96, 96),
    tokenizer=TokenizerConfig(kind="file", path="tokenizer.json", context_length=20),
)


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return SegmenterExperiment(
        network=TrisNetConfig(
            input_spec=INPUT,
            starts_from_stage1=True,
            has_response_input=True,
            has_coordinate_input=True,
            decoder_channels=(32, 48, 64, 96),
            positive_weight=1.5,
            encoder_learning_rate_scale=0.3,
        ),
        training=TrainingConfig(
            global_batch_size=32, steps=900, learning_rate=1e-3, precision="auto",
            attention="plain", num_workers=0, evaluate_every=300, select="last",
        ),
    )  # fmt: skip


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return TrisNetConfig(
        encoder=DEBUG_CLIP,
        input_spec=DEBUG_INPUT,
        has_response_input=True,
        response=ResponseNetConfig(encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, dim=16),
        has_coordinate_input=True,
        decoder_channels=(8, 12, 16, 20),
        positive_weight=3.0,
    )
