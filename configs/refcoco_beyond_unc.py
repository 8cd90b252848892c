"""Beyond TRIS on RefCOCO (unc): the parts that configs/synthetic.py adds, on photographs.

Stage 1 learns from images with all their sentences and without calibration; the maps of a referent
are merged by how much better they fit its sentences than its neighbours'; the referents of an image
compete for its pixels in one CRF; stage 2 as in configs/segmenter/tris_refcoco_beyond_unc.py, and
once more on labels that it makes itself. Labels keep all their components: on photographs an object
may be cut in two by what stands before it.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 4.1,
    with the departures above (docs/beyond.md).
Command: make stage1 stage2 CONFIG=refcoco_beyond_unc DATA=folder
    (folder as for configs/refcoco_unc.py, or a set of one's own: README.md)
Cost: not measured. 15 epochs of 16,994 images at batch 24 in stage 1, two rounds of 15 at batch 8
    in stage 2; an image has about 7 sentences.
Expected: nothing yet; not run so far. No setting was chosen on photographs. The temperature is a
    tenth of the embedded data's, for the cosines of OpenAI's CLIP lie closer together; kernels are
    those of `LabelConfig`. To choose better ones, on a validation split with masks:
    python -m benchmarks.competing_labels --run RUN
"""

import dataclasses

from configs import refcoco_unc
from configs.segmenter import tris_refcoco_beyond_unc
from tris.config import EvaluationConfig, ExperimentConfig, LabelExperiment
from tris.pseudo.label import LabelConfig
from tris.pseudo.prms import PrmsConfig
from tris.segmenters.tris_net import TrisNetConfig


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
            selection=PrmsConfig(method="margin", temperature=0.01, rival_weight=0.5),
            label=LabelConfig(competition="image"),
        ),
        segmenter=tris_refcoco_beyond_unc.get_config(),
        evaluation=EvaluationConfig(crf=True),
    )
