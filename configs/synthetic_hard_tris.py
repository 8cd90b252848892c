"""The harder embedded data set with the paper's recipe, to compare with.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023); scenes as in
configs/synthetic_hard.py, everything else as in configs/synthetic_tris.py.
Command: make stage1 stage2 CONFIG=synthetic_hard_tris
Cost: as configs/synthetic_tris.py.
Expected: docs/beyond.md, "Harder scenes".
"""

import dataclasses

from configs import synthetic_hard, synthetic_tris
from configs.segmenter import tris_synthetic_hard_tris
from tris.config import ExperimentConfig
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> ExperimentConfig[TrisNetConfig]:
    """Return the paper's recipe on harder scenes."""
    return dataclasses.replace(
        synthetic_tris.get_config(),
        name="synthetic_hard_tris",
        data=synthetic_hard.get_config().data,
        segmenter=tris_synthetic_hard_tris.get_config(),
    )
