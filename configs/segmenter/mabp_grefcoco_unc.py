"""MABP on gRefCOCO (unc), the paper's setting.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169), section IV-A. Gradient clipping, weight decay, loss weights and
the schedule are in the released code only: a constant rate for 5/8 of the training, then a cosine
down to 9 %.
Command: make stage1 stage2 CONFIG=grefcoco_unc SEGMENTER=mabp DATA=folder
Cost: 229 M parameters, 480 x 480 pixels, batch 42, 30 epochs; the paper used six RTX A5000 (24 GB),
    the released settings are batch 18, 40 epochs and two GPUs. Weights of Swin-B (ImageNet-22k) and
    BERT-base are fetched from the Hugging Face hub once.
Expected, Tables II and III, trained on annotated masks (gIoU / cIoU):
    val 68.79 / 65.69 (N-acc 64.55, T-acc 96.40), testA 72.79 / 71.60, testB 64.01 / 62.75.
"""

from configs.segmenter._debug import DEBUG_INPUT
from tris.config import SegmenterExperiment
from tris.encoders.bert import BertConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.segmenters.mabp import MabpConfig
from tris.segmenters.mabp.decoder import DecoderConfig
from tris.segmenters.mabp.pixel_decoder import PixelDecoderConfig
from tris.training.settings import TrainingConfig

TINY_DECODER = DecoderConfig(
    dim=32, num_attention_heads=4, feedforward_dim=32, layers_per_level=1, num_regions=4
)
TINY_PIXEL_DECODER = PixelDecoderConfig(num_layers=1, num_attention_heads=4, feedforward_dim=32)


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the published network, started from Swin-B and BERT-base."""
    return SegmenterExperiment(
        name="mabp",
        network=MabpConfig(),
        training=TrainingConfig(
            global_batch_size=42, epochs=30.0, learning_rate=2e-5, weight_decay=0.05,
            clip_norm=0.01, schedule="cosine", decay_from=0.625, lowest_rate=0.09,
            precision="auto", select="generalized_mean_iou",
        ),
    )  # fmt: skip


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return MabpConfig(
        encoder=VisionLanguageConfig(
            swin=SwinConfig(
                pretrained="", embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 2),
                window_size=4,
            ),
            bert=BertConfig(
                pretrained="", vocabulary_size=64, dim=16, num_layers=1, num_heads=2,
                feedforward_dim=16, max_tokens=8, num_trained_layers=1,
            ),
        ),
        input_spec=DEBUG_INPUT,
        pixel_decoder=TINY_PIXEL_DECODER,
        decoder=TINY_DECODER,
    )  # fmt: skip
