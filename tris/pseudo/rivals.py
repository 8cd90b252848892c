"""Which referents of an image compete for its pixels, and which describe the same object.

A data set's ``ref_id`` need not mean "another object": annotators wrote of one object twice, COCO
annotated one object twice, and a sentence of gRefCOCO speaks of several objects, some of which have
sentences of their own. Such referents must not take pixels from each other. They are recognised by

1. their sentences: equal ones are said of both (`CompetitionConfig.shared_sentences`);
2. their annotation ids, where the index has them and the config admits them: equal ids are the same
   object, common ids partly the same objects;
3. their maps: the foregrounds coincide and nothing tells the two apart (`join_alike`).

The same object is one class of the common CRF, whose pixels every referent of it keeps. A referent
of several objects (a composite) is no class of the common CRF, whose classes are therefore disjoint
objects; it has a CRF of its own against those that share nothing with it, and these keep what they
win in the common one (`tris.pseudo.label_image`). Objects that only composites speak of compete in
the common CRF, too (`Rest`), or a stranger would win them there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tris.data.referent import Referent
from tris.data.tokens import text_id
from tris.pseudo.contest import CompetitionConfig, Contest, Rest

Pairs = Bool[np.ndarray, "referents referents"]


class Kinship(NamedTuple):
    """What is known of the referents of one image, pair by pair.

    Attributes:
        same: They are the same object or objects; true of every referent and itself.
        shares: They have some of their objects in common, but not all.
        is_composite: Per referent: it shares objects and is not merely a part of the other.
        is_absent: Per referent: it speaks of nothing in the image.
        has_rest: Per referent: it is a composite, and no referents that are none speak of all its
            objects.
    """

    same: Pairs
    shares: Pairs
    is_composite: Bool[np.ndarray, "referents"]
    is_absent: Bool[np.ndarray, "referents"]
    has_rest: Bool[np.ndarray, "referents"]

    @property
    def rivals(self) -> Pairs:
        """Pairs of different objects."""
        absent = self.is_absent[:, None] | self.is_absent[None]
        different: Pairs = ~(self.same | self.shares | absent)
        return different


def find_kinship(referents: Sequence[Referent], config: CompetitionConfig) -> Kinship:
    """Compare sentences and, where admitted, annotation ids; no pixel is looked at."""
    count = len(referents)
    same, shares = np.eye(count, dtype=bool), np.zeros((count, count), dtype=bool)
    is_composite = np.zeros(count, dtype=bool)
    texts = [{text_id(sentence) for sentence in each.sentences} for each in referents]
    objects = [
        set(each.annotation_ids) if config.uses_annotation_ids else set() for each in referents
    ]
    for a in range(count):
        for b in range(count):
            if a == b or referents[a].is_no_target or referents[b].is_no_target:
                continue
            if objects[a] & objects[b]:
                same[a, b] = objects[a] == objects[b]
                shares[a, b] = objects[a] != objects[b]
                is_composite[a] |= shares[a, b] and not objects[a] < objects[b]
            else:
                same[a, b] = _are_alike(texts[a], texts[b], config.shared_sentences)
    is_absent = np.array([each.is_no_target for each in referents], dtype=bool)
    told = set().union(*(objects[place] for place in np.flatnonzero(~is_composite)))
    has_rest = np.array([not each <= told for each in objects], dtype=bool) & is_composite
    return Kinship(same, shares, is_composite, is_absent, has_rest)


def join_alike(
    kinship: Kinship,
    foregrounds: Bool[np.ndarray, "referents h w"],
    cannot_tell_apart: Pairs,
    config: CompetitionConfig,
) -> Kinship:
    """Join referents whose maps say that they are the same object.

    Args:
        kinship: What sentences and ids say.
        foregrounds: Of the referents' maps.
        cannot_tell_apart: Pairs for which the second piece of evidence holds: of stage 1's maps the
            judge finds that either region fits both referents' sentences equally well
            (`tris.pseudo.merging.cannot_tell_apart`); of a segmenter's maps, single sentences of
            one and of the other find the same region (`tris.pseudo.averaging.average_in_image`).
        config: The least overlap.
    """
    alike = (overlaps(foregrounds) >= config.map_overlap) & cannot_tell_apart & kinship.rivals
    return kinship._replace(same=kinship.same | alike)


def overlaps(foregrounds: Bool[np.ndarray, "masks h w"]) -> Float[np.ndarray, "masks masks"]:
    """Return the IoU of all pairs of masks; 0 where both are empty."""
    flat = foregrounds.reshape(len(foregrounds), -1).astype(np.float32)
    common = flat @ flat.T
    areas = flat.sum(axis=1)
    union = areas[:, None] + areas[None] - common
    iou: np.ndarray = common / np.maximum(union, 1)
    return iou


def plan_contests(kinship: Kinship) -> tuple[Contest, ...]:
    """Return the CRFs of one image; every referent is labelled by exactly one of them.

    One contest holds all that are no composites; each composite and each referent that is absent
    has its own. A contest of a single class without rests is none: its label is made in the
    ordinary way. The rest of a composite competes in the common contest if there is a stranger to
    win it.
    """
    groups = _join(kinship.same)
    alone = [g for g in groups if kinship.is_absent[list(g)].any()]
    composite = [g for g in groups if kinship.is_composite[list(g)].any() and g not in alone]
    simple = [g for g in groups if g not in alone and g not in composite]
    rests, contests = [], []
    for group in composite:
        others = [each for each in simple if not kinship.shares[np.ix_(group, each)].any()]
        if others and kinship.has_rest[list(group)].any():
            rests.append(Rest(group, tuple(each for each in simple if each not in others)))
        apart = [
            each
            for each in composite
            if each != group and not kinship.shares[np.ix_(group, each)].any()
        ]
        contests.append(Contest((group, *others), 1, tuple(apart)))
    common = [Contest(tuple(simple), len(simple), rests=tuple(rests))] if simple else []
    return (*common, *contests, *(Contest((group,), 1) for group in alone))


def separate_contests(count: int) -> tuple[Contest, ...]:
    """Return one contest of a single class per referent: nobody competes."""
    return tuple(Contest(((place,),), 1) for place in range(count))


def _are_alike(one: set[int], other: set[int], least: float) -> bool:
    fewer = min(len(one), len(other))
    return fewer > 0 and len(one & other) >= least * fewer


def _join(same: Pairs) -> list[tuple[int, ...]]:
    """Return connected groups, in order of their first members."""
    group = list(range(len(same)))
    for a, b in zip(*np.nonzero(same), strict=True):
        first, second = sorted((group[a], group[b]))
        group = [first if each == second else each for each in group]
    return [
        tuple(place for place, each in enumerate(group) if each == name)
        for name in dict.fromkeys(group)
    ]
