"""The embedded data set with the paper's recipe: from scratch on two CPU cores, nothing downloaded.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023); the recipe is
the paper's, the sizes are for 96-pixel images and a CLIP that is trained here first (stage 0). The
calibration terms weigh a tenth of the released ones: that CLIP is a weaker judge than ViT-B/32.
K = 6 negatives, as the paper prints.
Command: make stage1 stage2 CONFIG=synthetic_tris
Cost: docs/performance.md.
Expected: the table of the paper's recipe in docs/beyond.md (three seeds).
"""

from configs.segmenter import tris_synthetic_tris
from tris.batch import InputSpec, TokenizerConfig
from tris.config import (
    DataConfig,
    EvaluationConfig,
    ExperimentConfig,
    LabelExperiment,
    PretrainConfig,
    ResponseExperiment,
    SelfTrainingConfig,
)
from tris.data.synthetic import SyntheticConfig
from tris.data.synthetic_gres import WORDS, GresConfig
from tris.encoders.clip import ClipConfig
from tris.pseudo.label_presets import EMBEDDED_COMPETING_LABELS, EMBEDDED_LABELS
from tris.pseudo.prms import PrmsConfig
from tris.response.calibration import CalibrationConfig
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.tris_net import TrisNetConfig
from tris.training.settings import TrainingConfig

INPUT = InputSpec(
    image_size=(96, 96),
    tokenizer=TokenizerConfig(kind="file", path="tokenizer.json", context_length=20),
)
FRESH_SCENES = 1
"""Settings were chosen on the scenes of seed 0; docs/beyond.md names the two that were not."""
SMALL_CLIP = ClipConfig(architecture="tris-small", pretrained="", input_spec=INPUT)


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the experiment."""
    return ExperimentConfig(
        name="synthetic_tris",
        data=DataConfig(
            synthetic=SyntheticConfig(seed=FRESH_SCENES, gres=GresConfig()),
            evaluation_splits=("val", "test"),
            cache_images=True,
        ),
        pretrain=PretrainConfig(
            encoder=SMALL_CLIP,
            training=TrainingConfig(
                global_batch_size=64, sampling="images", steps=1600, learning_rate=1e-3,
                schedule="cosine", warmup_steps=50, precision="auto", attention="plain",
                num_workers=0, evaluate_every=None,
            ),
            extra_words=WORDS,
        ),
        response=ResponseExperiment(
            network=ResponseNetConfig(encoder=SMALL_CLIP, input_spec=INPUT, dim=128),
            calibration=CalibrationConfig(
                encoder=SMALL_CLIP, positive_weight=0.1, negative_weight=0.2, num_negatives=6,
                clamp_negatives=True,
            ),
            training=TrainingConfig(
                global_batch_size=48, steps=400, learning_rate=1e-3, precision="auto",
                attention="plain", num_workers=0, evaluate_every=200, select="last",
            ),
            encoder_learning_rate_scale=1.0,
        ),
        labels=LabelExperiment(
            selection=PrmsConfig(activation="sigmoid"), label=EMBEDDED_LABELS
        ),
        segmenter=tris_synthetic_tris.get_config(),
        evaluation=EvaluationConfig(minimum_area=2),  # 50 of 480 x 480 pixels, in 96 x 96
        self_training=SelfTrainingConfig(steps=500, label=EMBEDDED_COMPETING_LABELS),
    )  # fmt: skip
