"""TRIS segmentation network on the embedded data set, with words of place and rival referents.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4,
with the departures of configs/segmenter/tris_synthetic_tris.py and these: words have embeddings of
their own and become planes over the image; a batch is images with all their sentences;
cross-entropy over the image's referents and dice join the loss; images come mirrored, with left and
right exchanged.
Command: make stage1 stage2
Cost: 1.5 M trainable parameters, 96 x 96 pixels, 8 images with about 7 sentences each, 500 steps in
each of two rounds.
Expected: README.md, row "segmenter".
"""

import dataclasses

from configs.segmenter import tris_synthetic_tris
from tris.config import SegmenterExperiment
from tris.segmenters.image_losses import ImageLossConfig
from tris.segmenters.tris_net import TrisNetConfig

IMAGE_LOSSES = ImageLossConfig(referent_weight=1.0, dice_weight=0.5)
"""What configs/synthetic.py and configs/synthetic_hard.py add to the published loss."""


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = tris_synthetic_tris.get_config()
    return dataclasses.replace(
        base,
        network=_beyond(base.network),
        image_losses=IMAGE_LOSSES,
        rounds=2,
        training=dataclasses.replace(
            base.training, sampling="images", global_batch_size=8, sentences_per_image=0,
            flip_probability=0.5, steps=500, learning_rate=2e-3, evaluate_every=250,
        ),
    )  # fmt: skip


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return _beyond(tris_synthetic_tris.get_debug_config())


def _beyond(network: TrisNetConfig) -> TrisNetConfig:
    return dataclasses.replace(network, has_place_words=True)
