"""The labels of one image: each referent by itself, or in competition for the pixels.

Imports no torch, as `tris.pseudo.label` does not.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tris.errors import InputError
from tris.pseudo.contest import Contest
from tris.pseudo.crf import SMALLEST_PROBABILITY, DenseCrf, foreground_probability
from tris.pseudo.label import (
    LabelConfig,
    Labeller,
    PseudoLabel,
    judge_label,
    keep_highest_component,
    normalise_map,
    resize_image,
    resize_map,
    working_size,
)

Label = UInt8[np.ndarray, "height width"]
Claims = dict[tuple[int, ...], Label]
"""What each class is labelled, before the rule for degenerate labels; by its members."""

_LOWEST_SCORE = math.log(SMALLEST_PROBABILITY) - math.log1p(-SMALLEST_PROBABILITY)
_MOST_REPEATS = 2
"""Of a competition whose classes are to be in one piece; what is apart then is background."""


def label_image(
    response_logits: Float[np.ndarray, "referents h w"],
    image: UInt8[np.ndarray, "height width 3"],
    contests: Sequence[Contest],
    config: LabelConfig,
) -> dict[int, PseudoLabel]:
    """Return the label of every referent that the contests label, by its place.

    A contest of one class without rests is labelled as `label_referent` does, whatever the config
    says of competition. The labels of different classes of one contest never overlap, nor do those
    of referents that only compete in it, or are apart from it, with those that it labels: the
    former keep what they won where they were labelled, and of two that are apart the one whose map
    is higher takes a pixel that both claim. In one piece (``components``), a class whose winnings
    lie apart competes again without what lies beside its highest component, twice at most; what it
    wins there then, or what others cut off, is background.

    Args:
        response_logits: One map per referent of the image, before any activation; each covers the
            whole photograph.
        image: The photograph, RGB, original pixels.
        contests: Who competes with whom; all that bear on each other come together
            (`tris.pseudo.contest.contests_for`).
        config: Normalisation, refiner, rule, competition.

    Raises:
        InputError: If a map holds a value that is not finite.
    """
    if not np.isfinite(response_logits).all():
        raise InputError("A response map holds values that are not finite; check the network.")
    alone = Labeller(image, config)
    claims: Claims = {}
    for contest in contests:
        if len(contest.classes) + len(contest.rests) == 1:
            found = [alone.make_label(_merge(response_logits, contest.classes[0]))]
        else:
            found = _compete(response_logits, image, contest, config)
        claims |= zip(contest.classes[: contest.num_labelled], found, strict=True)
    claims = _leave_to_winners(claims, contests)
    claims = _separate(claims, contests, response_logits, config)
    if config.components == "highest":
        claims = {
            members: _in_one_piece(claim, _merge(response_logits, members))
            for members, claim in claims.items()
        }
    labels: dict[int, PseudoLabel] = {}
    for members, claim in claims.items():
        labels |= dict.fromkeys(members, judge_label(claim, config))
    return labels


class Competition:
    """Background and classes in one CRF over a photograph, for any number of runs.

    The unary of a class is the softmax over its logit, the others' and the background's, where a
    class's logit is that of the foreground probability which the CRF's unary makes of its map at
    ``foreground_threshold``, and the background's is ``background_logit``: with one class and a
    background at 0 it is the unary of the ordinary path. Rests are one more class, of any object
    that only composites speak of: a rest's logit ("the whole, and none of its parts") is the
    smallest of the whole's and its parts' with their signs turned, the class's that of the highest.

    Args:
        response_logits: One map per class.
        image: The photograph; the probabilities have its size.
        config: With ``refiner="threshold"`` the unary is all there is.
        rests: Per rest the map of the whole, and which classes are its parts
            (`tris.pseudo.contest.Rest`).

    Source:
        Krähenbühl and Koltun, NeurIPS 2011, with more than two labels.
    """

    def __init__(
        self,
        response_logits: Float[np.ndarray, "classes h w"],
        image: UInt8[np.ndarray, "height width 3"],
        config: LabelConfig,
        *,
        rests: Sequence[tuple[Float[np.ndarray, "h w"], Sequence[int]]] = (),
    ) -> None:
        height, width = image.shape[:2]
        self._size = (height, width)
        competing = config.competing
        crf = replace(competing.crf, threshold=config.foreground_threshold)
        is_refined = config.refiner == "crf"
        self._working_size = (
            working_size(height, width, config.working_size) if is_refined else self._size
        )

        def score(logits: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "height width"]:
            resized = resize_map(logits, self._working_size)
            foreground = foreground_probability(normalise_map(resized, config.normalisation), crf)
            log_odds: np.ndarray = np.log(foreground) - np.log1p(-foreground)
            return log_odds

        background = np.full(self._working_size, competing.background_logit)
        self._scores = np.stack([background, *(score(logits) for logits in response_logits)])
        self._rests = [(score(whole), parts) for whole, parts in rests]
        self._crf = None
        if is_refined:
            shrunk = resize_image(image, self._working_size)
            num_classes = len(self._scores) + (len(rests) > 0)
            self._crf = DenseCrf(shrunk, crf, num_classes=num_classes)

    def run(
        self, barred: Bool[np.ndarray, "classes height width"] | None = None
    ) -> Float[np.ndarray, "all_classes height width"]:
        """Return the probabilities of background, classes and rests (if any) after the common CRF.

        Args:
            barred: Where a class's score is to be as low as any can be. Kernels may still win it
                such pixels, as those of a part that a thin line cuts off.
        """
        scores = self._scores.copy()
        if barred is not None:
            for score, pixels in zip(scores[1:], barred, strict=True):
                is_out = resize_map(pixels.astype(np.float32), self._working_size) > 0.5
                score[is_out] = _LOWEST_SCORE
        if self._rests:
            of_rests = [
                np.minimum.reduce([whole, *(-scores[1 + part] for part in parts)])
                for whole, parts in self._rests
            ]
            scores = np.stack([*scores, np.maximum.reduce(of_rests)])
        energy = _negative_log_softmax(scores)
        if self._crf is None:
            unary: np.ndarray = np.exp(-energy).astype(np.float32)
            return unary
        return np.stack([resize_map(each, self._size) for each in self._crf.infer(energy)])


def _compete(
    response_logits: Float[np.ndarray, "referents h w"],
    image: UInt8[np.ndarray, "height width 3"],
    contest: Contest,
    config: LabelConfig,
) -> list[Label]:
    winner = _contest(response_logits, image, contest, config).argmax(axis=0)
    return [(winner == number).astype(np.uint8) for number in range(1, contest.num_labelled + 1)]


def _contest(
    response_logits: Float[np.ndarray, "referents h w"],
    image: UInt8[np.ndarray, "height width 3"],
    contest: Contest,
    config: LabelConfig,
) -> Float[np.ndarray, "all_classes height width"]:
    """Return the probabilities of the last of as many competitions as it takes."""
    maps = np.stack([_merge(response_logits, members) for members in contest.classes])
    rests = [
        (_merge(response_logits, rest.whole), [contest.classes.index(part) for part in rest.parts])
        for rest in contest.rests
    ]
    competition = Competition(maps, image, config, rests=rests)
    probabilities = competition.run()
    if config.components == "all":
        return probabilities
    responses = [resize_map(each, image.shape[:2]) for each in maps]
    barred = np.zeros((len(maps), *image.shape[:2]), bool)
    for _ in range(_MOST_REPEATS):
        spare = _spare_components(probabilities.argmax(axis=0), responses)
        if not spare.any():
            break
        barred = barred | spare
        probabilities = competition.run(barred)
    return probabilities


def _spare_components(
    winner: Int[np.ndarray, "height width"], responses: Sequence[Float[np.ndarray, "height width"]]
) -> Bool[np.ndarray, "classes height width"]:
    """Return what each class has won beside its highest component."""
    won = [winner == number for number in range(1, len(responses) + 1)]
    return np.stack([
        own & ~keep_highest_component(own, response)
        for own, response in zip(won, responses, strict=True)
    ])  # fmt: skip


def _leave_to_winners(claims: Claims, contests: Sequence[Contest]) -> Claims:
    """Take from each class what others, that only compete with it here, won where they belong."""
    left = dict(claims)
    for contest in contests:
        for members in contest.classes[: contest.num_labelled]:
            for other in contest.classes[contest.num_labelled :]:
                if other in claims:
                    left[members] = np.where(claims[other] == 1, np.uint8(0), left[members])
    return left


def _separate(
    claims: Claims,
    contests: Sequence[Contest],
    response_logits: Float[np.ndarray, "referents h w"],
    config: LabelConfig,
) -> Claims:
    """Give pixels that two classes claim that are apart to the one whose map is higher there."""
    left = dict(claims)
    for contest in contests:
        for own in contest.classes[: contest.num_labelled] if contest.apart else ():
            for other in contest.apart:
                if other not in claims:
                    continue
                ours, theirs = (
                    normalise_map(
                        resize_map(_merge(response_logits, members), claims[own].shape),
                        config.normalisation,
                    )
                    for members in (own, other)
                )
                is_theirs = (theirs > ours) | ((theirs == ours) & (other < own))
                left[own] = np.where((claims[other] == 1) & is_theirs, np.uint8(0), left[own])
    return left


def _in_one_piece(claim: Label, response_logits: Float[np.ndarray, "h w"]) -> Label:
    """Return the claim without what it has beside its highest component."""
    own = claim == 1
    is_spare = own & ~keep_highest_component(own, resize_map(response_logits, claim.shape))
    return np.where(is_spare, np.uint8(0), claim)


def _merge(
    response_logits: Float[np.ndarray, "referents h w"], members: Sequence[int]
) -> Float[np.ndarray, "h w"]:
    merged: np.ndarray = response_logits[list(members)].mean(axis=0)
    return merged


def _negative_log_softmax(
    scores: Float[np.ndarray, "classes height width"],
) -> Float[np.ndarray, "classes height width"]:
    shifted = scores - scores.max(axis=0)
    energy: np.ndarray = np.log(np.exp(shifted).sum(axis=0)) - shifted
    return energy
