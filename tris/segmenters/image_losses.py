"""Mask losses beyond the papers', of any segmenter: referents share an image's pixels."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from tris.batch import IGNORE_INDEX, Batch
from tris.data.samples import NO_SINGLE_REFERENT
from tris.errors import InputError
from tris.segmenters.losses import dice_loss, required_targets

_LEFT_OUT = -1


@dataclass(frozen=True)
class ImageLossConfig:
    """Terms that join a segmenter's own loss, whatever it is; None = no such term.

    Attributes:
        referent_weight: Of the cross-entropy over the image's referents, for image-wise batches.
        dice_weight: Of a dice loss beside those of the segmenter's paper.
    """

    referent_weight: float | None = None
    dice_weight: float | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("referent_weight", "dice_weight"):
            weight = getattr(self, name)
            if weight is not None and not weight > 0:
                raise InputError(f"{name} is above 0 or None, not {weight}.")


def image_losses(
    logits: Float[Tensor, "expr height width"], batch: Batch, config: ImageLossConfig
) -> dict[str, Float[Tensor, ""]]:
    """Return the weighted terms; their names differ from those of every segmenter's own.

    Raises:
        InputError: If the batch has no targets.
    """
    terms = {}
    if config.referent_weight is not None:
        terms["referent_loss"] = config.referent_weight * referent_cross_entropy(logits, batch)
    if config.dice_weight is not None:
        dice = dice_loss(logits, required_targets(batch))
        terms["image_dice_loss"] = config.dice_weight * dice
    return terms


def referent_cross_entropy(
    logits: Float[Tensor, "expr height width"], batch: Batch
) -> Float[Tensor, ""]:
    """Return how surprising it is which of its image's referents each pixel belongs to.

    The classes of a pixel are the image's referents and a background of logit 0. Every expression
    is asked by itself: its own logit speaks for its referent, the mean over its sentences for each
    other one. So sentences of one referent are no rivals, and none hides behind a better one, as
    it could in a mean: in use each stands alone. Where an image has one referent this is its
    binary cross-entropy.

    Left out are pixels that some labelled referent of the image does not know or that several
    claim; referents without a known pixel, as rivals too; and expressions whose target is not that
    of one referent (`NO_SINGLE_REFERENT`).

    Args:
        logits: > 0 means foreground.
        batch: Says what is true, and which sentences share an image and a referent.

    Returns:
        Nats per pixel: mean over all expressions of the mean over their image's pixels, float32;
        what is left out adds zero.

    Raises:
        InputError: If the batch has no targets.
    """
    targets = required_targets(batch)
    is_labelled = (targets != IGNORE_INDEX).flatten(1).any(dim=1)
    takes_part = is_labelled & (batch.referent_id != NO_SINGLE_REFERENT)
    total = 0.0 * logits.float().sum()
    for image in batch.image_index[takes_part].unique():
        rows = (takes_part & (batch.image_index == image)).nonzero()[:, 0]
        _, referent = batch.referent_id[rows].unique(return_inverse=True)
        total = total + _cross_entropy_of_image(
            logits[rows].float().flatten(1), targets[rows].flatten(1), referent
        )
    return total / len(logits)


def _cross_entropy_of_image(
    logits: Float[Tensor, "expr pixels"],
    targets: UInt8[Tensor, "expr pixels"],
    referent: Int[Tensor, "expr"],
) -> Float[Tensor, ""]:
    """Return the sum over one image's expressions; ``referent`` counts from 0.

    Sentences of one referent have the same rivals, so these are summed up once per referent.
    """
    membership = functional.one_hot(referent).to(logits).T
    means = (membership / membership.sum(dim=1, keepdim=True)) @ logits
    scores = torch.cat([torch.zeros_like(means[:1]), means])
    is_own = torch.eye(len(means), len(scores), dtype=torch.bool, device=logits.device).roll(1, 1)
    rivals = scores.masked_fill(is_own.unsqueeze(-1), -torch.inf).logsumexp(dim=1)
    owner = _find_owner(targets, membership > 0)
    is_known = owner != _LEFT_OUT
    of_owner = scores.gather(0, owner.clamp(min=0).unsqueeze(0))
    true_scores = torch.where(owner == 1 + referent.unsqueeze(1), logits, of_owner)
    per_pixel = torch.logaddexp(rivals[referent], logits) - true_scores
    return torch.where(is_known, per_pixel, 0.0).sum() / is_known.sum().clamp(min=1)


def _find_owner(
    targets: UInt8[Tensor, "expr pixels"], membership: Bool[Tensor, "referents expr"]
) -> Int[Tensor, "pixels"]:
    """Return the class of each pixel: 0 = background, 1 + number of a referent, or left out."""
    claims = (membership.float() @ (targets == 1).float() > 0).float()
    numbers = torch.arange(1, len(claims) + 1, dtype=claims.dtype, device=claims.device)
    owner = (numbers @ claims).long()
    is_unsure = (targets == IGNORE_INDEX).any(dim=0) | (claims.sum(dim=0) > 1)
    return owner.masked_fill(is_unsure, _LEFT_OUT)
