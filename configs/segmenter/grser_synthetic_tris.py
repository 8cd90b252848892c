"""GRSer on the labels of the paper's recipe of stage 1, without place words.

Paper: Wu et al., "Advancing Referring Expression Segmentation Beyond Single Image"
(arXiv 2305.12452);
everything else as in configs/segmenter/grser_synthetic.py.
Command: make stage1 stage2 CONFIG=synthetic_tris SEGMENTER=grser
Cost: as configs/segmenter/grser_synthetic.py.
Expected: docs/segmenters.md, as far as it has been trained.
"""

import dataclasses

from configs.segmenter import grser_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.grser import GrserConfig


def get_config() -> SegmenterExperiment[GrserConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = grser_synthetic.get_config()
    return dataclasses.replace(
        base, network=dataclasses.replace(base.network, has_place_words=False)
    )


def get_debug_config() -> GrserConfig:
    """Return a tiny network of the same class, for tests."""
    return dataclasses.replace(grser_synthetic.get_debug_config(), has_place_words=False)
