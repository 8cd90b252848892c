"""Beyond TRIS on RefCOCO (unc): the parts of configs/synthetic.py but labels in one piece.

Stage 1 learns from images with all their sentences and without calibration; the maps of a referent
are merged by how much better they fit its sentences than its neighbours'; the referents of an image
compete for its pixels in one CRF; stage 2 as in configs/segmenter/tris_refcoco_beyond_unc.py, and
once more on labels that it makes itself. Labels keep all their components: on photographs an object
may be cut in two by what stands before it. Responses are read as probabilities, in merging and
labels, so that a weak one competes weakly. Referents are the same object by their ids and sentences
alone: RefCOCO's are all different, also where maps agree.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 4.1,
    with the departures above (docs/beyond.md).
Command: make stage1 stage2 CONFIG=refcoco_beyond_unc DATA=folder
    (folder as for configs/refcoco_unc.py, or a set of one's own: README.md)
Cost: not measured. Stage 1: 15 epochs of 16,994 images at batch 24, with about 7 sentences each.
    Stage 2: two rounds of 3 epochs, together about as many sentences as 15 epochs of
    configs/refcoco_unc.py; at most 64 masks at once, where that has 48.
Expected: nothing yet; not run so far. The CRF's kernels were chosen on masks of photographs, no
    setting of merging, competition or training was. The temperature is a tenth of the embedded
    data's, for the cosines of OpenAI's CLIP lie closer together. Merging without competition may be
    the better start: competition needs good maps (docs/pseudo_labels.md), and the paper's are at 25
    mean IoU. To choose on a validation split with masks:
    python -m benchmarks.competing_labels --run RUN --fields merging competition
"""

import dataclasses

from configs import refcoco_unc
from configs.segmenter import tris_refcoco_beyond_unc
from tris.config import (
    EvaluationConfig,
    ExperimentConfig,
    LabelExperiment,
    SelfTrainingConfig,
)
from tris.pseudo.label_presets import SEGMENTER_LABELS
from tris.pseudo.prms import PrmsConfig
from tris.segmenters.tris_net import TrisNetConfig

LABELS = dataclasses.replace(
    SEGMENTER_LABELS,
    competing=dataclasses.replace(SEGMENTER_LABELS.competing, map_overlap=1.1),
)
"""Of both rounds: one CRF over probabilities, and nobody joined because maps agree."""


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the experiment on RefCOCO."""
    base, replace = refcoco_unc.get_config(), dataclasses.replace
    response = base.response
    return replace(
        base,
        name="refcoco_beyond_unc",
        response=replace(
            response,
            calibration=replace(response.calibration, positive_weight=0.0, negative_weight=0.0),
            training=replace(
                response.training, sampling="images", global_batch_size=24, sentences_per_image=0
            ),
        ),
        labels=LabelExperiment(
            selection=PrmsConfig(
                activation="sigmoid", method="margin", temperature=0.01, rival_weight=0.5
            ),
            label=LABELS,
        ),
        segmenter=tris_refcoco_beyond_unc.get_config(),
        evaluation=EvaluationConfig(crf=True),
        self_training=SelfTrainingConfig(label=LABELS),
    )
