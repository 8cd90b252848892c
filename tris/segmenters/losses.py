"""Mask losses that segmenters share; pixels of `IGNORE_INDEX` count nowhere."""

from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from tris.batch import IGNORE_INDEX, Batch
from tris.errors import InputError


def binary_cross_entropy(
    logits: Float[Tensor, "expr height width"],
    targets: UInt8[Tensor, "expr height width"],
    *,
    positive_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Return the mean over expressions of the mean cross-entropy over their known pixels.

    Every expression counts alike, however many of its pixels are ignored, so that a batch split
    over processes gives the same mean. Without ignored pixels this is the mean over all pixels. An
    expression without a known pixel adds zero.

    Args:
        logits: > 0 means foreground.
        targets: 0, 1 or `IGNORE_INDEX`.
        positive_weight: Factor on the loss of foreground pixels.

    Returns:
        Nats per pixel, float32.
    """
    is_known = targets != IGNORE_INDEX
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(),
        (targets == 1).float(),
        pos_weight=logits.new_tensor(positive_weight, dtype=logits.float().dtype),
        reduction="none",
    )
    known_losses = losses.where(is_known, 0.0).sum(dim=(1, 2))
    return (known_losses / is_known.sum(dim=(1, 2)).clamp(min=1)).mean()


def required_targets(batch: Batch) -> UInt8[Tensor, "expr height width"]:
    """Return the targets of a batch.

    Raises:
        InputError: If there are none.
    """
    if batch.targets is None:
        raise InputError(
            "This batch has no targets, but a loss needs a mask per expression; build the data "
            "with labels."
        )
    return batch.targets
