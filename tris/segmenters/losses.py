"""Mask losses that segmenters share; pixels of `IGNORE_INDEX` count nowhere."""

import torch
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


def focal_loss(
    logits: Float[Tensor, "expr height width"],
    targets: UInt8[Tensor, "expr height width"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, ""]:
    """Return the mean over expressions of the mean focal loss over their known pixels.

    A pixel whose class has probability p costs -weight (1 - p)^gamma ln p. An expression without a
    known pixel adds zero.

    Args:
        logits: > 0 means foreground.
        targets: 0, 1 or `IGNORE_INDEX`.
        alpha: Weight of foreground pixels; background pixels weigh 1 - alpha.
        gamma: How little pixels count that are right already, >= 1; 0 = cross-entropy.

    Returns:
        Weighted nats per pixel, float32.

    Source:
        Lin et al., "Focal loss for dense object detection" (arXiv 1708.02002), equation 5.
    """
    is_known = targets != IGNORE_INDEX
    is_foreground = (targets == 1).float()
    known_logits = logits.float().where(is_known, 0.0)
    surprise = functional.binary_cross_entropy_with_logits(
        known_logits, is_foreground, reduction="none"
    )
    weight = alpha * is_foreground + (1 - alpha) * (1 - is_foreground)
    losses = weight * (-torch.expm1(-surprise)) ** gamma * surprise
    known_losses = losses.where(is_known, 0.0).sum(dim=(1, 2))
    return (known_losses / is_known.sum(dim=(1, 2)).clamp(min=1)).mean()


def dice_loss(
    logits: Float[Tensor, "expr height width"],
    targets: UInt8[Tensor, "expr height width"],
    *,
    squares_denominator: bool = False,
    smoothing: float = 1.0,
) -> Float[Tensor, ""]:
    """Return the mean over expressions of 1 - (2 sum pt + s) / (sum p + sum t + s).

    p are probabilities and t targets of an expression's known pixels. Without a known pixel, and
    for an empty target where nothing is predicted, it is 0.

    Args:
        logits: > 0 means foreground.
        targets: 0, 1 or `IGNORE_INDEX`.
        squares_denominator: Sum p squared instead of p in the denominator, as V-Net does.
        smoothing: s, pixels.

    Returns:
        In [0, 1], float32.

    Source:
        Milletari et al., "V-Net" (arXiv 1606.04797), equation 3.
    """
    is_known = (targets != IGNORE_INDEX).float()
    truth = (targets == 1).float()
    probability = logits.float().sigmoid() * is_known
    overlap = (probability * truth).sum(dim=(1, 2))
    predicted = (probability.square() if squares_denominator else probability).sum(dim=(1, 2))
    return 1 - ((2 * overlap + smoothing) / (predicted + truth.sum(dim=(1, 2)) + smoothing)).mean()


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
