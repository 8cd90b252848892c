"""Weighted merging: all maps of a referent count, by how well they tell it from its neighbours."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def margin_weights(
    similarity: Float[Tensor, "maps maps"],
    owner: Int[Tensor, "maps"],
    *,
    rivals: Bool[Tensor, "maps maps"],
    temperature: float,
    rival_weight: float = 1.0,
) -> tuple[Float[Tensor, "maps"], Float[Tensor, "maps"]]:
    """Return the weight of every map of one image among its referent's, and its margin.

    With s_ij the cosine of the image under map i and sentence j (equation 9 of TRIS), R(i) the
    sentences of map i's own referent and Q(i) those of other objects of the same image,

        margin_i = 1 / |R(i)| sum_{j in R(i)} s_ij  -  r max_{k in Q(i)} s_ik
        weight_i = exp(margin_i / t) / sum_{i' in R(i)} exp(margin_i' / t)

    Where Q(i) is empty the maximum is 0: a softmax over the own score alone.

    Args:
        similarity: Of all maps and sentences of the image; row = masked image, column = sentence;
            map i was made by sentence i.
        owner: The referent of each map.
        rivals: True where sentence k (column) is about another object than map i (row).
        temperature: t. Above 0; the smaller, the more the best map counts alone.
        rival_weight: r. At 0 only the own score counts.

    Returns:
        Weights, which sum to 1 within each referent; margins, in [-1 - r, 1 + r].

    Source:
        This project; the own score is that of TRIS (arXiv 2308.14575), eq. 10, divided by M.
    """
    is_own = owner[:, None] == owner[None]
    own = (similarity * is_own).sum(dim=1) / is_own.sum(dim=1)
    strongest = similarity.masked_fill(~rivals, -torch.inf).amax(dim=1)
    strongest = torch.where(rivals.any(dim=1), strongest, torch.zeros_like(strongest))
    margins = own - rival_weight * strongest
    logits = (margins / temperature).expand(len(owner), -1).masked_fill(~is_own, -torch.inf)
    return logits.softmax(dim=1).diagonal(), margins


def cannot_tell_apart(
    similarity: Float[Tensor, "maps maps"],
    owner: Int[Tensor, "maps"],
    *,
    tolerance: float,
) -> Bool[Tensor, "referents referents"]:
    """Return the pairs of referents whose regions fit both their sentences equally well.

    For referents a and b: the maps of a, with the sentences of a, score in the mean at most
    ``tolerance`` more than with the sentences of b, and the other way round.

    Args:
        similarity: As for `margin_weights`.
        owner: The referent of each map, numbered 0, 1, ... without gaps.
        tolerance: Difference of cosines.
    """
    membership = torch.nn.functional.one_hot(owner).to(similarity)
    mean = membership / membership.sum(dim=0)
    scores = mean.T @ similarity @ mean
    is_close = scores.diagonal()[:, None] - scores <= tolerance
    return is_close & is_close.T
