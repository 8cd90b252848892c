"""HARIS on RefCOCO (unc), the paper's setting.

Paper: Zhang et al., "HARIS: Human-Like Attention for Reference Image Segmentation", section IV.B:
Adam, 50 epochs, 1e-4, a tenth of it from the 30th epoch on, batch 16, at most 17 words, frozen SAM
and CLIP. It names no size of either: ViT-H is the default of SAM's release, ViT-B/16 a common text
tower (docs/fidelity.md). Its 25 words for RefCOCOg:
    ARGS="--segmenter.network.input-spec.tokenizer.context-length 25"
Command: make stage1 stage2 CONFIG=refcoco_unc SEGMENTER=haris DATA=...
Cost: 10.7 M of 711.1 M parameters are trained; a forward is 6.0 TFLOPs, nearly all SAM's
(benchmarks/segmenters.py --counts-only). The paper used four V100. Reckoned from the FLOPs at a
sustained 40 TFLOP/s per GPU, not measured: 23 h on 4 GPUs, 12 h on 8. With
--segmenter.network.cache-frozen-features SAM sees each photograph once. Its maps take 23 MB per
photograph, 390 GB for the 16,994 of the training split, and are read again at every step: 42,404
images x 50 epochs x 23 MB = 49 TB. Reckoned again: the cache pays only where it is read faster
than about 0.6 GB/s (4 GPUs) or 1.2 GB/s (8); benchmarks/feature_cache.py measures what it saves.
Expected, Table I, trained on annotated masks (the paper's "IoU"): RefCOCO val 76.17, testA 78.45,
testB 71.37; RefCOCO+ 66.01, 71.92, 57.02; G-Ref val (U) 65.05, test (U) 66.60, val (G) 64.55.
Ablations on RefCOCO val (Tables II, III): without hierarchy 71.75, without decoder 74.98, with
cross-attention 74.72, without feedback 75.06, without vision-weighted attention 74.89, without
language-weighted attention 72.86. Trained on text alone nobody has published a number.
"""

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.config import SegmenterExperiment
from tris.encoders.sam import SamArchitecture, SamEncoderConfig
from tris.segmenters.haris import HarisConfig
from tris.training.settings import TrainingConfig

DEBUG_SAM = SamEncoderConfig(
    pretrained="",
    architecture=SamArchitecture(
        dim=32, num_layers=4, num_heads=2, mlp_dim=48, neck_channels=24, image_size=64,
        patch_size=8, window_size=3, global_layers=(1, 3),
    ),
    shallow_layer=0,
    middle_layer=1,
)  # fmt: skip


def get_config() -> SegmenterExperiment[HarisConfig]:
    """Return the published network; weight decay 0 makes AdamW the paper's Adam."""
    return SegmenterExperiment(
        network=HarisConfig(),
        training=TrainingConfig(
            global_batch_size=16, epochs=50.0, learning_rate=1e-4, weight_decay=0.0,
            schedule="step", decay_at=(0.6,), precision="auto", sync_batch_norm=True,
        ),
        name="haris",
    )  # fmt: skip


def get_debug_config() -> HarisConfig:
    """Return a tiny network of the same class, for tests."""
    return HarisConfig(
        sam=DEBUG_SAM,
        clip=DEBUG_CLIP,
        input_spec=DEBUG_INPUT,
        dim=16,
        decoder_layers=2,
        decoder_heads=2,
        decoder_mlp_dim=32,
    )
