"""The losses of MABP: masks of every head, and whether there is a target."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from tris.batch import IGNORE_INDEX


@dataclass(frozen=True)
class LossConfig:
    """The defaults are the released weights; the paper names none.

    Attributes:
        mask_weight: Of the cross-entropy of the finest head (omega_ce).
        mask_dice_weight: Of its Dice loss (omega_de).
        region_weight: Of the mean cross-entropy of the coarser heads.
        region_dice_weight: Of their mean Dice loss.
        no_target_weight: Of the mean cross-entropy of the no-target branches.
        positive_weight: Factor on the loss of foreground pixels.
        target_class_weight: Factor on the no-target loss of expressions that have a target.
        no_target_class_weight: Factor on it of expressions that have none.
        has_entropy_weights: Weigh a pixel by how unsure the network is of it, from 0.5 to 1.5.
    """

    mask_weight: float = 5.0
    mask_dice_weight: float = 5.0
    region_weight: float = 0.5
    region_dice_weight: float = 0.5
    no_target_weight: float = 2.5
    positive_weight: float = 1.1
    target_class_weight: float = 0.9
    no_target_class_weight: float = 1.1
    has_entropy_weights: bool = True


def soft_targets(
    targets: UInt8[Tensor, "expr height width"], size: torch.Size | tuple[int, int]
) -> tuple[Float[Tensor, "expr h w"], Float[Tensor, "expr h w"]]:
    """Return targets at a head's resolution, in [0, 1], and how much of each cell is known.

    Bilinear, as released (the paper says nearest): a cell is interpolated from the four pixels next
    to its centre. Pixels to be ignored take no part; a cell of none but such is unknown (0).

    Args:
        targets: 0, 1 or `IGNORE_INDEX`.
        size: Height, width of the head's mask.
    """
    planes = torch.stack([targets == 1, targets != IGNORE_INDEX], dim=1).float()
    if planes.shape[-2:] != tuple(size):
        planes = functional.interpolate(
            planes, size=tuple(size), mode="bilinear", align_corners=False
        )
    foreground, known = planes.unbind(dim=1)
    return foreground / known.clamp(min=1e-6), known


def mask_cross_entropy(
    logits: Float[Tensor, "expr h w"],
    targets: Float[Tensor, "expr h w"],
    known: Float[Tensor, "expr h w"],
    config: LossConfig,
) -> Float[Tensor, ""]:
    """Return the mean over expressions of the weighted cross-entropy of their known cells.

    Args:
        logits: > 0 means foreground.
        targets: In [0, 1].
        known: Weight of each cell in [0, 1]; an expression without a known cell adds zero.
        config: Factors.

    Returns:
        Nats per cell, float32.

    Source:
        MABP (arXiv 2405.15169), equation 2; both weightings are in the released code only.
    """
    logits = logits.float()
    losses = functional.binary_cross_entropy_with_logits(
        logits,
        targets,
        pos_weight=logits.new_tensor(config.positive_weight),
        reduction="none",
    )
    if config.has_entropy_weights:
        losses = losses * uncertainty(logits)
    return ((losses * known).sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp(min=1e-6)).mean()


def uncertainty(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return a weight in [0.5, 1.5] that grows with the entropy of each prediction; no gradient."""
    probability = logits.detach().sigmoid()
    entropy = -probability * torch.log2(probability + 1e-6)
    entropy = entropy - (1 - probability) * torch.log2(1 - probability + 1e-6)
    return entropy.clamp(min=0.5) * 2 - 0.5


def mask_dice(
    logits: Float[Tensor, "expr h w"],
    targets: Float[Tensor, "expr h w"],
    known: Float[Tensor, "expr h w"],
) -> Float[Tensor, ""]:
    """Return the mean over expressions of 1 - (2 sum pt + 1) / (sum p + sum t + 1).

    Like `tris.segmenters.losses.dice_loss`, but for targets between 0 and 1.

    Source:
        MABP (arXiv 2405.15169), equation 3; smoothing as released.
    """
    probability = logits.float().sigmoid()
    overlap = (known * probability * targets).sum(dim=(1, 2))
    total = (known * (probability + targets)).sum(dim=(1, 2))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def no_target_cross_entropy(
    logits: Float[Tensor, "heads expr 2"], is_no_target: Bool[Tensor, "expr"], config: LossConfig
) -> Float[Tensor, ""]:
    """Return the class-weighted cross-entropy, mean over heads and expressions.

    The mean is not divided by the weights of the classes that occur, as released, so a batch split
    over processes gives the same mean.
    """
    weights = logits.new_tensor(
        [config.target_class_weight, config.no_target_class_weight], dtype=torch.float32
    )
    classes = is_no_target.long().expand(len(logits), -1)
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), classes.flatten(), weight=weights, reduction="none"
    )
    return losses.mean()
