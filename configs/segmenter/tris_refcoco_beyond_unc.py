"""TRIS segmentation network on RefCOCO (unc), with words of place and rival referents.

Paper: Liu et al., "Referring Image Segmentation Using Text Supervision" (ICCV 2023), section 3.4,
with the departures of configs/segmenter/tris_synthetic.py: words have embeddings of their own and
become planes over the image, which join the decoder with coordinates and stage 1's response; a
batch is images with all their sentences; cross-entropy over the image's referents and dice join the
loss; images come mirrored, with left and right exchanged; two rounds.
Command: make stage1 stage2 CONFIG=refcoco_beyond_unc DATA=...
Cost: not measured; 8 images with at most 8 sentences each, 320 x 320 pixels, two rounds of 3
epochs.
Expected: nothing yet; not run so far.
"""

import dataclasses

from configs.segmenter import tris_refcoco_unc
from configs.segmenter.tris_synthetic import IMAGE_LOSSES
from tris.config import SegmenterExperiment
from tris.segmenters.tris_net import TrisNetConfig


def get_config() -> SegmenterExperiment[TrisNetConfig]:
    """Return the experiment; the run fills in where stage 1 is."""
    base = tris_refcoco_unc.get_config()
    return dataclasses.replace(
        base,
        network=dataclasses.replace(_beyond(base.network), has_response_input=True),
        image_losses=IMAGE_LOSSES,
        rounds=2,
        training=dataclasses.replace(
            base.training, sampling="images", global_batch_size=8, sentences_per_image=8,
            flip_probability=0.5, epochs=3.0,
        ),
    )  # fmt: skip


def get_debug_config() -> TrisNetConfig:
    """Return a tiny network of the same class, for tests."""
    return _beyond(tris_refcoco_unc.get_debug_config())


def _beyond(network: TrisNetConfig) -> TrisNetConfig:
    return dataclasses.replace(network, has_place_words=True, has_coordinate_input=True)
