"""Harder sentences for harder scenes: order, between, next to; see `tris.data.synthetic_sentences`.

ordinal    := rank [description] "from the" side             "second from the left"
between    := description "between the" description "and the" description
proximity  := description "next to the" [comparison] description   "next to the larger star"
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tris.data.synthetic_scenes import SceneObject
from tris.data.synthetic_sentences import MAKERS, Description, Maker, describe
from tris.errors import InputError


@dataclass(frozen=True)
class HardConfig:
    """The harder embedded data set: 6 shapes, 8 colours, 4 patterns, photographs as backgrounds.

    Attributes:
        position_share: Share of sentences that need a place word.
        relation_share: Share of those with a direction from another object.
        ordinal_share: Share of those with a rank.
        between_share: Share of those that name two other objects.
        proximity_share: Share of those with "next to".
    """

    position_share: float = 0.14
    relation_share: float = 0.12
    ordinal_share: float = 0.1
    between_share: float = 0.06
    proximity_share: float = 0.12

    def __post_init__(self) -> None:
        """Check the fields."""
        if min(self.shares.values()) < 0:
            raise InputError("The shares of the kinds of sentences sum to more than 1.")

    @property
    def shares(self) -> dict[str, float]:
        """By type."""
        rest = {
            "position": self.position_share,
            "relation": self.relation_share,
            "ordinal": self.ordinal_share,
            "between": self.between_share,
            "proximity": self.proximity_share,
        }
        return {"attribute": 1 - sum(rest.values()), **rest}


_SIDES = {"left": (1, 0), "right": (-1, 0), "top": (0, 1), "bottom": (0, -1)}
_RANKS = {"second": 1, "third": 2}
_MARGIN = 0.06  # of the image side: smaller differences are not clear to an eye
_RATIO = 1.25  # of radii: smaller differences of size are not
_NEAR = 0.16  # of the image side, between two outlines
_STRICT_MIDDLE, _GENEROUS_MIDDLE = 0.3, 0.15  # of the way between two landmarks: earliest
_STRICT_ASIDE, _GENEROUS_ASIDE = (0.22, 0.18), (0.4, 0.35)  # of that way, of the image side


@dataclass(frozen=True)
class Ordinal:
    """``second star from the left``; objects in order of their centres."""

    rank: str
    subject: Description
    side: str

    type = "ordinal"

    def __str__(self) -> str:
        subject = "" if self.subject == Description() else f" {self.subject}"
        return f"{self.rank}{subject} from the {self.side}"

    def find(self, objects: Sequence[SceneObject], *, is_strict: bool) -> set[int]:
        """Strict: all others are clearly before or behind. Generous: the rank is possible."""
        fitting = [i for i, thing in enumerate(objects) if self.subject.fits(thing)]
        (across, down), wanted = _SIDES[self.side], _RANKS[self.rank]
        place = {i: across * objects[i].x + down * objects[i].y for i in fitting}
        found = set()
        for i in fitting:
            others = [place[j] - place[i] for j in fitting if j != i]
            before = sum(gap < -_MARGIN for gap in others)
            unclear = sum(abs(gap) <= _MARGIN for gap in others)
            if (
                before == wanted and not unclear
                if is_strict
                else (before <= wanted <= before + unclear)
            ):
                found.add(i)
        return found


@dataclass(frozen=True)
class Landmark:
    """``the larger star``: an object that others are placed by."""

    description: Description
    comparison: str = ""

    def __str__(self) -> str:
        return " ".join(word for word in (self.comparison, str(self.description)) if word)

    def find(self, objects: Sequence[SceneObject]) -> int | None:
        """Return its number, None unless it is one object beyond doubt."""
        fitting = [i for i, thing in enumerate(objects) if self.description.fits(thing)]
        if self.comparison and len(fitting) == 2:
            small, large = sorted(fitting, key=lambda i: objects[i].radius)
            if objects[large].radius < _RATIO * objects[small].radius:
                return None
            return large if self.comparison == "larger" else small
        return fitting[0] if len(fitting) == 1 and not self.comparison else None


@dataclass(frozen=True)
class Between:
    """``circle between the red square and the star``."""

    subject: Description
    first: Landmark
    second: Landmark

    type = "between"

    def __str__(self) -> str:
        return f"{self.subject} between the {self.first} and the {self.second}"

    def find(self, objects: Sequence[SceneObject], *, is_strict: bool) -> set[int]:
        """Strict: near the middle of the line between both. Generous: anywhere beside it."""
        ends = self.first.find(objects), self.second.find(objects)
        if ends[0] is None or ends[1] is None or ends[0] == ends[1]:
            return set()
        start, end = objects[ends[0]], objects[ends[1]]
        across, down = end.x - start.x, end.y - start.y
        length = math.hypot(across, down)
        if not length:
            return set()
        earliest = _STRICT_MIDDLE if is_strict else _GENEROUS_MIDDLE
        of_way, of_side = _STRICT_ASIDE if is_strict else _GENEROUS_ASIDE
        found = set()
        for i, thing in enumerate(objects):
            if i in ends or not self.subject.fits(thing):
                continue
            x, y = thing.x - start.x, thing.y - start.y
            along = (x * across + y * down) / length**2
            aside = abs(x * down - y * across) / length
            if earliest < along < 1 - earliest and aside < min(of_way * length, of_side):
                found.add(i)
        return found


@dataclass(frozen=True)
class Proximity:
    """``circle next to the larger star``: the nearest that fits."""

    subject: Description
    landmark: Landmark

    type = "proximity"

    def __str__(self) -> str:
        return f"{self.subject} next to the {self.landmark}"

    def find(self, objects: Sequence[SceneObject], *, is_strict: bool) -> set[int]:
        """Strict: near, and clearly nearer than the others. Generous: near, or not clearly farther.

        Of two circles near a star either may be called next to it, however much nearer one is.
        """
        anchor = self.landmark.find(objects)
        if anchor is None:
            return set()
        start = objects[anchor]
        gaps = {
            i: math.hypot(thing.x - start.x, thing.y - start.y) - thing.radius - start.radius
            for i, thing in enumerate(objects)
            if i != anchor and self.subject.fits(thing)
        }
        if not is_strict:
            nearest = min(gaps.values(), default=0.0)
            return {i for i, gap in gaps.items() if gap <= nearest + _MARGIN or gap < _NEAR}
        return {
            i
            for i, gap in gaps.items()
            if gap < _NEAR and all(gap + _MARGIN < gaps[j] for j in gaps if j != i)
        }


def _ordinal(objects: Sequence[SceneObject], target: int, rng: np.random.Generator) -> Ordinal:
    subject = describe(objects[target], rng, chances=(0.05, 0.0, 0.15, 0.4))
    if sum(subject.fits(thing) for thing in objects) < 3:
        subject = Description()
    rank = "second" if rng.random() < 0.7 else "third"
    return Ordinal(rank, subject, tuple(_SIDES)[int(rng.integers(4))])


def _between(objects: Sequence[SceneObject], target: int, rng: np.random.Generator) -> Between:
    subject = describe(objects[target], rng, chances=(0.0, 0.0, 0.1, 0.7))
    others = [thing for i, thing in enumerate(objects) if i != target]
    picks = rng.permutation(len(others))[:2].tolist()
    first, second = (_landmark(others[i], objects, rng) for i in (picks[0], picks[-1]))
    return Between(subject, first, second)


def _proximity(objects: Sequence[SceneObject], target: int, rng: np.random.Generator) -> Proximity:
    subject = describe(objects[target], rng, chances=(0.0, 0.0, 0.1, 0.6))
    others = [thing for i, thing in enumerate(objects) if i != target]
    return Proximity(subject, _landmark(others[int(rng.integers(len(others)))], objects, rng))


def _landmark(
    thing: SceneObject, objects: Sequence[SceneObject], rng: np.random.Generator
) -> Landmark:
    said = describe(thing, rng, chances=(0.1, 0.05, 0.6, 0.95))
    fitting = [each for each in objects if said.fits(each)]
    if len(fitting) != 2 or said.size:
        return Landmark(said)
    return Landmark(said, "larger" if thing.radius == max(o.radius for o in fitting) else "smaller")


HARD_MAKERS: Mapping[str, Maker] = {
    **MAKERS,
    "ordinal": _ordinal,
    "between": _between,
    "proximity": _proximity,
}
