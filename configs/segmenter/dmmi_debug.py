"""DMMI in miniature, for tests of the pipeline; the tests' own network has the paper's pooling.

Paper: Hu et al., "Beyond One-to-One: Rethinking the Referring Image Segmentation" (ICCV 2023).
Command: make stage1 stage2 CONFIG=debug SEGMENTER=dmmi
Cost: seconds.
Expected: nothing; see configs/debug.py.
"""

import dataclasses

from configs.segmenter import dmmi_synthetic
from tris.config import SegmenterExperiment
from tris.segmenters.dmmi import DmmiConfig


def get_config() -> SegmenterExperiment[DmmiConfig]:
    """Return the embedded network on smaller images, with few steps."""
    base = dmmi_synthetic.get_config()
    spec = dataclasses.replace(base.network.input_spec, image_size=(64, 64))
    return dataclasses.replace(
        base,
        network=dataclasses.replace(base.network, input_spec=spec, feedforward_dim=64),
        training=dataclasses.replace(
            base.training, global_batch_size=8, steps=12, precision="fp32", evaluate_every=6,
            log_every=2, select="mean_iou",
        ),
    )  # fmt: skip


def get_debug_config() -> DmmiConfig:
    """Return a tiny network of the same class, for tests: sums over regions and runs."""
    return dataclasses.replace(
        dmmi_synthetic.get_debug_config(), pooling="sum", windows=(1, 2, 3), regions=(1, 3, 5)
    )
