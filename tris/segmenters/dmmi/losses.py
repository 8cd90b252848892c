"""DMMI's three losses; each gives the same number however a batch is split over processes."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from tris.batch import IGNORE_INDEX
from tris.distributed import gather_rows

_COSINE_FLOOR = 1e-6


def weighted_cross_entropy(
    logits: Float[Tensor, "expr height width"],
    targets: UInt8[Tensor, "expr height width"],
    *,
    class_weights: tuple[float, float],
) -> Float[Tensor, ""]:
    """Return the class-weighted mean over all known pixels of the batch, nats.

    A two-class softmax on (background, foreground) logits is a sigmoid on their difference, so one
    logit is enough. Divided by the weights' sum, as `torch.nn.functional.cross_entropy` does; with
    several processes, by this process's share of the sum over all of them.

    Args:
        logits: Foreground minus background.
        targets: 0, 1 or `IGNORE_INDEX`.
        class_weights: Of background and foreground.
    """
    background, foreground = class_weights
    is_foreground = (targets == 1).float()
    weights = background + (foreground - background) * is_foreground
    weights = weights.masked_fill(targets == IGNORE_INDEX, 0.0)
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), is_foreground, reduction="none"
    )
    everywhere, _ = gather_rows(weights.sum(dim=(1, 2)))
    per_expression = (losses * weights).sum(dim=(1, 2)) / everywhere.mean().clamp(min=1.0)
    return per_expression.mean()


def similarity_loss(
    recovered: Float[Tensor, "expr tokens dim"],
    wanted: Float[Tensor, "expr tokens dim"],
    token_mask: Bool[Tensor, "expr tokens"],
    has_target: Bool[Tensor, "expr"],
) -> Float[Tensor, ""]:
    """Return 1 - the mean cosine of recovered and wanted words.

    No gradient reaches the wanted words. An expression without a target counts as cosine 0: the
    paper's eq. 8 leaves it out, which shifts the value and changes no gradient.

    Args:
        recovered: What the phrase decoder made of the sentence without its phrase.
        wanted: The refined words of the whole sentence.
        token_mask: True = real token; start and end token count, too.
        has_target: Whether the expression refers to anything.
    """
    cosines = functional.cosine_similarity(
        recovered.float(), wanted.detach().float(), dim=-1, eps=_COSINE_FLOOR
    )
    per_expression = (cosines * token_mask).sum(dim=1) / token_mask.sum(dim=1).clamp(min=1)
    return 1 - (per_expression * has_target).mean()


def contrastive_loss(
    visual: Float[Tensor, "expr dim"],
    textual: Float[Tensor, "expr dim"],
    has_target: Bool[Tensor, "expr"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of finding one's sentence among the batch's, and one's image.

    Expressions without a target are no positives; they still are negatives of the others.

    Args:
        visual: Summary of the decoder's features.
        textual: Summary of the refined words.
        has_target: Whether the expression refers to anything.
        temperature: Divides the cosines.

    Source:
        DMMI (arXiv 2308.13853), eq. 9 to 11, over the batch of all processes.
    """
    visual, textual = (functional.normalize(each.float(), dim=1) for each in (visual, textual))
    (all_visual, start), (all_textual, _) = gather_rows(visual), gather_rows(textual)
    own = start + torch.arange(len(visual), device=visual.device)
    losses = [
        functional.cross_entropy(rows @ others.T / temperature, own, reduction="none")
        for rows, others in ((visual, all_textual), (textual, all_visual))
    ]
    return (torch.stack(losses).sum(dim=0) * has_target).mean()
