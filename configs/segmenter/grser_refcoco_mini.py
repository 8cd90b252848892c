"""GRSer on 110 real photographs, from scratch, a few steps.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image" (ICCV 2023).
Command: make stage1 stage2 CONFIG=refcoco_mini SEGMENTER=grser DATA=folder
Cost: under a minute on two CPU cores.
Expected: nothing; see configs/refcoco_mini.py.
"""

import dataclasses

from configs.segmenter import grser_synthetic
from tris.config import SegmenterExperiment
from tris.data.compose import CompositionConfig
from tris.segmenters.grser import GrserConfig


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the embedded network with few steps, and sentences composed as on photographs."""
    base = grser_synthetic.get_config()
    return dataclasses.replace(
        base,
        training=dataclasses.replace(base.training, steps=40, evaluate_every=20),
        composition=CompositionConfig(),
    )


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return grser_synthetic.get_debug_config()
