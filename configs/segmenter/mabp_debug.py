"""MABP in miniature, for tests of the pipeline.

Paper: Li et al., "Bring Adaptive Binding Prototypes to Generalized Referring Expression
Segmentation" (arXiv 2405.15169).
Command: make stage1 stage2 CONFIG=debug SEGMENTER=mabp
Cost: seconds.
Expected: nothing; see configs/debug.py.
"""

import dataclasses

from configs.segmenter import mabp_synthetic
from configs.segmenter.mabp_grefcoco_unc import TINY_DECODER, TINY_PIXEL_DECODER
from configs.segmenter.tris_debug import INPUT
from tris.config import SegmenterExperiment
from tris.segmenters.mabp import MabpConfig


def get_config() -> SegmenterExperiment[MabpConfig]:
    """Return the embedded network on smaller images, with few channels and steps."""
    base = mabp_synthetic.get_config()
    return dataclasses.replace(
        base,
        network=dataclasses.replace(
            base.network, input_spec=INPUT, decoder=TINY_DECODER, pixel_decoder=TINY_PIXEL_DECODER
        ),
        training=dataclasses.replace(
            base.training, global_batch_size=16, steps=24, precision="fp32", evaluate_every=12,
            log_every=2, warmup_steps=0, select="mean_iou",
        ),
    )  # fmt: skip


def get_debug_config() -> MabpConfig:
    """Return a tiny network of the same class, for tests."""
    return mabp_synthetic.get_debug_config()
