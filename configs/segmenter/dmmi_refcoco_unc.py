"""DMMI on RefCOCO (unc), as released: Swin-B with windows of 12, BERT-base.

Paper: Hu et al., "Beyond One-to-One: Rethinking the Referring Image Segmentation" (ICCV 2023),
section 5.1: AdamW, weight decay 0.01, 5e-5 with polynomial decay, at most 20 word pieces. The
released training script adds 40 epochs, 480 pixels (paper: 448), batch 2 (its default: 8, taken
here), losses weighted 0.01, classes weighted 0.9 and 1.1. The paper's choices where they differ:
    ARGS="--segmenter.network.similarity-weight 1 --segmenter.network.contrastive-weight 1
    --segmenter.network.class-weights 1 1 --segmenter.network.input-spec.image-size 448 448"
With ResNet-101: --segmenter.network.encoder.vision resnet --segmenter.network.skips fused
Command: make stage1 stage2 CONFIG=refcoco_unc SEGMENTER=dmmi DATA=...
Cost: 315 M parameters (277 M learn), 785 GFLOP per image and expression (ResNet-101: 382 M, 344 M,
871 GFLOP), 40 epochs of 42,404 referents = 212,000 steps of batch 8. Reckoned, not measured:
42,404 x 40 epochs x 785 GFLOP x 3 (forward and backward) = 4.0e18 FLOP, at a sustained 40 TFLOP/s
per GPU about 7 h on 4 GPUs, 3.5 h on 8.
Expected, Table 1, trained on annotated masks, overall IoU: RefCOCO val 74.13, testA 77.13, testB
70.16; RefCOCO+ val 63.98, testA 69.73, testB 57.03; G-Ref val (U) 63.46, test (U) 64.19, val (G)
61.98. With ResNet-101: RefCOCO 68.56, 71.25, 63.16; RefCOCO+ 57.90, 62.31, 50.27; G-Ref 59.02,
59.24, 55.13. Ref-ZOM (Table 2): overall_iou 68.77, mean_iou 68.21, zero_sample_accuracy 87.02
(stages/evaluate.py scores CONFIG=refcoco_unc with --data.dataset ref-zom by these rules).
Trained on text alone nobody has published a number.
"""

import dataclasses

from configs.segmenter._debug import DEBUG_INPUT
from tris.batch import PhraseErasing
from tris.config import SegmenterExperiment
from tris.encoders.bert import BertConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.segmenters.dmmi import DmmiConfig
from tris.training.settings import TrainingConfig

DEBUG_SWIN = SwinConfig("", embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 2), window_size=4)
DEBUG_BERT = BertConfig(
    "", vocabulary_size=60, dim=16, num_layers=3, num_heads=2, feedforward_dim=24, max_tokens=12,
    num_trained_layers=2,
)  # fmt: skip


def get_config() -> SegmenterExperiment[DmmiConfig]:
    """Return the released network and schedule."""
    return SegmenterExperiment(
        network=DmmiConfig(),
        training=TrainingConfig(
            global_batch_size=8, epochs=40.0, learning_rate=5e-5, weight_decay=0.01,
            precision="auto", sync_batch_norm=True,
        ),
        name="dmmi",
    )  # fmt: skip


def get_debug_config() -> DmmiConfig:
    """Return a tiny network of the same class, for tests."""
    return DmmiConfig(
        encoder=VisionLanguageConfig(swin=DEBUG_SWIN, bert=DEBUG_BERT),
        input_spec=dataclasses.replace(DEBUG_INPUT, erases_phrases=PhraseErasing()),
        num_heads=2,
        feedforward_dim=24,
    )
