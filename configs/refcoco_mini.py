"""110 real photographs in RefCOCO's format, from scratch: does everything run on the real thing?

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023).
Command: make stage1 stage2 CONFIG=refcoco_mini DATA=folder
    (folder holds refcoco/refs(unc).p, refcoco/instances.json and images/train2014/)
    Sentences about no object, one or many, with ref-zom/refs(final).p and its instances.json:
    make stage1 stage2 CONFIG=refcoco_mini SEGMENTER=dmmi DATA=folder \
    ARGS='--data.dataset ref-zom --data.split-by final --data.evaluation-splits val test'
    Composed of RefCOCO's sentences, and asked gRefCOCO's:
    make stage1 stage2 CONFIG=refcoco_mini SEGMENTER=mabp DATA=folder \
    ARGS=--data.also-scores-grefcoco
Cost: about three minutes on two CPU cores.
Expected: nothing. The networks are small, start from random weights and see each photograph a few
    times; scores mean nothing here.
"""

import dataclasses

from configs import synthetic_tris
from configs.segmenter import tris_refcoco_mini
from tris.config import DataConfig, EvaluationConfig, ExperimentConfig, LabelExperiment
from tris.pseudo.label import LabelConfig
from tris.pseudo.prms import PrmsConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the embedded recipe on official files, a few steps of each stage."""
    base = synthetic_tris.get_config()
    assert base.pretrain is not None
    pretrain = dataclasses.replace(
        base.pretrain,
        vocabulary_size=1024,
        training=dataclasses.replace(base.pretrain.training, steps=60, global_batch_size=32),
    )
    training = dataclasses.replace(
        base.response.training, steps=40, global_batch_size=32, evaluate_every=20
    )
    return dataclasses.replace(
        base,
        name="refcoco_mini",
        data=DataConfig(cache_images=True),
        pretrain=pretrain,
        response=dataclasses.replace(base.response, training=training),
        labels=LabelExperiment(selection=PrmsConfig(activation="sigmoid"), label=LabelConfig()),
        segmenter=tris_refcoco_mini.get_config(),
        evaluation=EvaluationConfig(),
    )
