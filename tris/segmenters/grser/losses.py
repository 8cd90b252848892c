"""GRSer's losses: which side the triphasic features lie on, and masks of positive photographs."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from tris.batch import IGNORE_INDEX
from tris.layers.resize import resize


def triplet_margin_loss(
    to_text: Float[Tensor, "expr"],
    to_anti_text: Float[Tensor, "expr"],
    is_positive: Bool[Tensor, "expr"],
    *,
    margin: float,
) -> Float[Tensor, ""]:
    """Return how far the pairs are from lying on their side by the margin, mean over all pairs.

    Args:
        to_text: Distance from the triphasic features to the expression.
        to_anti_text: Distance to the anti-expression.
        is_positive: Whether the photograph shows what the sentence names.
        margin: m.

    Source:
        GRSer (arXiv 2305.12452), equation 5.
    """
    difference = torch.where(is_positive, to_text - to_anti_text, to_anti_text - to_text)
    return (difference + margin).relu().mean()


def positive_cross_entropy(
    logits: Float[Tensor, "expr height width"],
    targets: UInt8[Tensor, "expr height width"],
    is_positive: Bool[Tensor, "expr"],
    *,
    positive_weight: float = 1.0,
    is_mirror: bool = False,
) -> Float[Tensor, ""]:
    """Return the mean over positive pairs of the mean cross-entropy over their known pixels.

    Args:
        logits: > 0 means foreground.
        targets: 0, 1 or `IGNORE_INDEX`.
        is_positive: Pairs that count (equation 6: "only positive samples"); none give zero.
        positive_weight: Factor on the loss of the object's pixels, in the mirror, too.
        is_mirror: The truth is the background, 1 - target.

    Returns:
        Nats per pixel, float32.
    """
    is_known = (targets != IGNORE_INDEX) & is_positive[:, None, None]
    is_object = targets == 1
    truth = ~is_object if is_mirror else is_object
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), truth.float(), reduction="none"
    )
    weights = torch.where(is_object, positive_weight, 1.0) * is_known
    sums = (losses.where(is_known, 0.0) * weights).sum(dim=(1, 2))
    means = sums / is_known.sum(dim=(1, 2)).clamp(min=1)
    return means.sum() / is_positive.sum().clamp(min=1)


def heatmap_cross_entropy(
    heatmap: Float[Tensor, "expr h w"],
    targets: UInt8[Tensor, "expr height width"],
    *,
    positive_weight: float = 1.0,
    is_mirror: bool = False,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of maps of cosines, read as logits, mean over all pairs.

    Not in the paper, whose losses leave it open which side of 0 the object lies on. Negatives, too,
    are to have their empty masks, so that their experts have nothing to say; and the anti-text its
    background, or all of a negative, so that it goes another way than the text.
    """
    logits = resize(_COSINE_SCALE * heatmap.float()[:, None], targets.shape[-2:])[:, 0]
    everyone = torch.ones(len(targets), dtype=torch.bool, device=targets.device)
    return positive_cross_entropy(
        logits, targets, everyone, positive_weight=positive_weight, is_mirror=is_mirror
    )


_COSINE_SCALE = 10.0
"""A cosine of .3 is then a probability of .95."""
