"""MABP on the embedded data set, from scratch on two CPU cores.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169), with departures that a small network without pretraining needs:
both encoders start from stage 1, its frozen response and place words join the pixel decoder's
input, foreground pixels weigh 3, 9 regions instead of 16 (3, 6 and 12 windows a side divide the map
of 12 cells that all three levels see) with windows that cover the map tightly, two mixed-modal
layers per level instead of three. A part of the sentences is composed into ones about several
objects, or about none, which weigh 3 in the no-target loss (released: 1.1): a ninth of so few
samples would teach it too little.
Command: make stage1 stage2 SEGMENTER=mabp
Cost: 800 steps of 24 in 16 minutes on two idle cores without AVX-512, in 25 on one of them with
    another training beside it.
Expected, one seed, test split, when one object in eight (now one in five) had no sentence: PointM
    92.5, mean IoU 73.0; gres_testA: gIoU 75.5, N-acc 74.2, T-acc 98.8. Three seeds of
    CONFIG=synthetic_gres are in docs/segmenters.md.
"""

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from configs.segmenter.mabp_grefcoco_unc import TINY_DECODER, TINY_PIXEL_DECODER
from configs.segmenter.tris_synthetic_tris import INPUT
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.mabp import MabpConfig
from tris.segmenters.mabp.decoder import DecoderConfig
from tris.segmenters.mabp.losses import LossConfig
from tris.segmenters.mabp.pixel_decoder import PixelDecoderConfig
from tris.training.settings import TrainingConfig

COMPOSITION = CompositionConfig(brief_share=0.5, counted_share=0.4, counted_and_share=0.3)
"""Kinds are counted although some objects have no sentence: 8 % of such sentences are untrue
(docs/segmenters.md)."""


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    return SegmenterExperiment(
        name="mabp",
        network=MabpConfig(
            input_spec=INPUT,
            starts_from_stage1=True,
            has_response_input=True,
            has_place_words=True,
            pixel_decoder=PixelDecoderConfig(
                num_layers=1, num_attention_heads=4, feedforward_dim=128
            ),
            decoder=DecoderConfig(
                dim=64, num_attention_heads=4, feedforward_dim=128, layers_per_level=2,
                num_regions=9, has_tight_windows=True,
            ),
            losses=LossConfig(positive_weight=3.0, no_target_class_weight=3.0),
            encoder_learning_rate_scale=0.3,
        ),
        training=TrainingConfig(
            global_batch_size=24, steps=800, learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0,
            warmup_steps=50, precision="fp32", num_workers=0, evaluate_every=300, select="last",
        ),
        composition=COMPOSITION,
    )  # fmt: skip


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return MabpConfig(
        encoder=VisionLanguageConfig(vision="clip", words="clip", clip=DEBUG_CLIP),
        input_spec=DEBUG_INPUT,
        has_response_input=True,
        response=ResponseNetConfig(encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, dim=16),
        has_place_words=True,
        pixel_decoder=TINY_PIXEL_DECODER,
        decoder=TINY_DECODER,
        encoder_learning_rate_scale=0.3,
    )
