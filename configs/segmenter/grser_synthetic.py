"""GRSer on the embedded data set, from text alone.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image" (ICCV 2023),
with departures that a small network without pretraining needs: both encoders start from stage 1,
its frozen response, coordinates and place words join every step of the decoder, foreground pixels
weigh 3, and the language-activated heatmap has a loss of its own. Groups are made of sentences that
recur; half of them are taken apart, so that photographs stand alone as most do at test time, and
their sentences are composed now and then. A pair is positive where it lies nearer to the expression
(a margin of 0 at test time).
Command: make stage1 stage2 SEGMENTER=grser
Cost: 1.5 M trainable parameters, 96 x 96 pixels, batches of 4 groups of 8, 800 steps in 19
minutes on one core without AVX-512, tests beside it.
Expected, one seed, test split, when one object in eight (now one in five) had no sentence: PointM
    89.4, mean IoU 64.6; gres_testA: gIoU 70.4, N-acc 87.4, T-acc 98.9. Three seeds of
    CONFIG=synthetic_gres are in docs/segmenters.md.
"""

import dataclasses

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from configs.segmenter.mabp_synthetic import COMPOSITION
from tris.batch import InputSpec, TokenizerConfig
from tris.config import SegmenterExperiment
from tris.data.group_sources import GroupingConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.grser import GrserConfig
from tris.training.settings import TrainingConfig

INPUT = InputSpec(
    image_size=(96, 96),
    tokenizer=TokenizerConfig(kind="file", path="tokenizer.json", context_length=20),
    group_size=8,
)


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return SegmenterExperiment(
        name="grser",
        network=GrserConfig(
            encoder=VisionLanguageConfig(vision="clip", words="clip"),
            input_spec=INPUT,
            starts_from_stage1=True,
            has_response_input=True,
            has_coordinate_input=True,
            has_place_words=True,
            sentence_token="mean",
            mirror_weight=0.3,
            heatmap_weight=0.3,
            feature_channels=96,
            decoder_channels=(64, 48),
            embedding_channels=128,
            inference_margin=0.0,
            positive_weight=3.0,
            encoder_learning_rate_scale=0.3,
        ),
        training=TrainingConfig(
            global_batch_size=32, steps=800, learning_rate=1e-3, warmup_steps=50, clip_norm=1.0,
            precision="auto", num_workers=0, evaluate_every=None, select="last",
        ),
        composition=COMPOSITION,
        grouping=GroupingConfig(alone_share=0.5),
    )  # fmt: skip


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return GrserConfig(
        encoder=VisionLanguageConfig(vision="clip", words="clip", clip=DEBUG_CLIP),
        input_spec=dataclasses.replace(DEBUG_INPUT, group_size=3),
        has_response_input=True,
        response=ResponseNetConfig(encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, dim=16),
        has_coordinate_input=True,
        has_place_words=True,
        anti_prefix=(5, 6),
        sentence_token="last",
        feature_channels=24,
        decoder_channels=(16, 12),
        embedding_channels=16,
        positive_weight=3.0,
    )
