"""DMMI on the labels of the paper's recipe of stage 1, without place words.

Paper: Hu et al., "Beyond One-to-One: Rethinking the Referring Image Segmentation" (ICCV 2023);
everything else as in configs/segmenter/dmmi_synthetic.py.
Command: make stage1 stage2 CONFIG=synthetic_tris SEGMENTER=dmmi
Cost: as configs/segmenter/dmmi_synthetic.py.
Expected: docs/segmenters.md, as far as it has been trained.
"""

import dataclasses

from configs.segmenter import dmmi_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.dmmi import DmmiConfig


def get_config() -> SegmenterExperiment[DmmiConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = dmmi_synthetic.get_config()
    return dataclasses.replace(
        base, network=dataclasses.replace(base.network, has_place_words=False)
    )


def get_debug_config() -> DmmiConfig:
    """Return a tiny network of the same class, for tests."""
    return dataclasses.replace(dmmi_synthetic.get_debug_config(), has_place_words=False)
