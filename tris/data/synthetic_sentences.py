"""Sentences of the embedded data set: their grammar, their meaning, and finding unambiguous ones.

    description := [size] [pattern] [color] (shape | "thing")
    attribute   := description                                  "large purple triangle"
    position    := extreme description | description side       "leftmost thing", "star on the left"
    relation    := description direction "the" description      "circle right of the red square"

A sentence is unambiguous when the strict and the generous reading of its place words give the
same single object.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from tris.data.synthetic_scenes import (
    ALL_COLORS,
    ALL_PATTERNS,
    ALL_SHAPES,
    SIZES,
    SceneObject,
)
from tris.errors import InputError

EXPRESSION_TYPES = ("attribute", "position", "relation")

_EXTREMES = {"leftmost": (-1, 0), "rightmost": (1, 0), "topmost": (0, -1), "lowest": (0, 1)}
_SIDES = {
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
}
_DIRECTIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
_MARGIN = 0.06  # of the image side: differences below it are not clear to an eye
_ATTEMPTS = 16


@dataclass(frozen=True)
class Description:
    """What is said of an object alone; empty = not said.

    Attributes:
        size: A key of `SIZES`.
        pattern: One of `PATTERNS`.
        color: A key of `COLORS`.
        shape: One of `SHAPES`.
    """

    size: str = ""
    pattern: str = ""
    color: str = ""
    shape: str = ""

    def __str__(self) -> str:
        words = (self.size, self.pattern, self.color, self.shape or "thing")
        return " ".join(word for word in words if word)

    def fits(self, thing: SceneObject) -> bool:
        """Say whether all that is said is true of the object."""
        return (
            self.shape in ("", thing.shape)
            and self.color in ("", thing.color)
            and self.size in ("", thing.size)
            and self.pattern in ("", thing.pattern)
        )


@dataclass(frozen=True)
class Expression:
    """A sentence as a structure.

    Attributes:
        subject: The object meant.
        extreme: ``leftmost`` and the like, or empty: by centre and by outer edge.
        side: ``on the left`` and the like, or empty.
        direction: ``left of`` and the like, or empty.
        landmark: The object that ``direction`` starts from.
    """

    subject: Description
    extreme: str = ""
    side: str = ""
    direction: str = ""
    landmark: Description | None = None

    def __str__(self) -> str:
        parts = [self.extreme, str(self.subject), self.side]
        if self.landmark is not None:
            parts += [self.direction, "the", str(self.landmark)]
        return " ".join(part for part in parts if part)

    def find(self, objects: Sequence[SceneObject], *, is_strict: bool) -> set[int]:
        """Return the numbers of the objects that the sentence can mean; see `find_referents`."""
        return find_referents(self, objects, is_strict=is_strict)

    @property
    def type(self) -> str:
        """One of `EXPRESSION_TYPES`."""
        if self.direction:
            return "relation"
        return "position" if self.extreme or self.side else "attribute"


@runtime_checkable
class Meaning(Protocol):
    """A sentence as a structure, of whatever kind."""

    @property
    def type(self) -> str:
        """Name of the kind."""
        ...

    def find(self, objects: Sequence[SceneObject], *, is_strict: bool) -> set[int]:
        """Return the numbers of the objects that it can mean, read strictly or generously."""
        ...


Maker = Callable[[Sequence[SceneObject], int, np.random.Generator], Meaning]
"""Proposes a sentence about one object of a scene, by its number; it may be ambiguous."""


def parse(sentence: str) -> Expression:
    """Read a sentence of the grammar back.

    Raises:
        InputError: If the sentence is not of the grammar.
    """
    for direction in _DIRECTIONS:
        subject, found, landmark = sentence.partition(f" {direction} the ")
        if found:
            start = _parse_description(landmark)
            return Expression(_parse_description(subject), direction=direction, landmark=start)
    for side in _SIDES:
        if sentence.endswith(f" {side}"):
            return Expression(_parse_description(sentence.removesuffix(f" {side}")), side=side)
    first, _, rest = sentence.partition(" ")
    if first in _EXTREMES:
        return Expression(_parse_description(rest), extreme=first)
    return Expression(_parse_description(sentence))


def find_referents(
    expression: Expression, objects: Sequence[SceneObject], *, is_strict: bool
) -> set[int]:
    """Return the numbers of the objects that the expression can mean.

    Args:
        expression: What is said.
        objects: The scene.
        is_strict: True = place words hold clearly; False = they hold in the most generous reading.
    """
    fitting = [i for i, thing in enumerate(objects) if expression.subject.fits(thing)]
    margin = _MARGIN if is_strict else -_MARGIN
    if expression.extreme:
        direction = _EXTREMES[expression.extreme]
        centers = [_along(direction, objects[i]) for i in fitting]
        edges = [_along(direction, objects[i]) + objects[i].radius for i in fitting]
        either = _lead(centers, margin), _lead(edges, 0.0)
        ahead = either[0] & either[1] if is_strict else either[0] | either[1]
        return {fitting[i] for i in ahead}
    if expression.side:
        direction = _SIDES[expression.side]
        return {i for i in fitting if _along(direction, objects[i], 0.5, 0.5) > margin}
    if expression.landmark is None:
        return set(fitting)
    starts = [i for i, thing in enumerate(objects) if expression.landmark.fits(thing)]
    if len(starts) != 1:
        return set()
    direction, start = _DIRECTIONS[expression.direction], objects[starts[0]]
    return {
        i
        for i in fitting
        if i != starts[0] and _is_towards(direction, start, objects[i], is_strict=is_strict)
    }


def find_true(sentence: str, objects: Sequence[SceneObject]) -> set[int]:
    """Return the numbers of the objects that a sentence fits in its most generous reading.

    With several objects that fit the landmark, each may be the one that is meant.

    Raises:
        InputError: If the sentence is not of the embedded grammar.
    """
    expression = parse(sentence)
    if expression.landmark is None:
        return find_referents(expression, objects, is_strict=False)
    direction = _DIRECTIONS[expression.direction]
    return {
        number
        for number, thing in enumerate(objects)
        if expression.subject.fits(thing)
        and any(
            start is not thing
            and expression.landmark.fits(start)
            and _is_towards(direction, start, thing, is_strict=False)
            for start in objects
        )
    }


def is_unambiguous(expression: Meaning, objects: Sequence[SceneObject], target: int) -> bool:
    """Say whether strict and generous reading both give ``target`` and nothing else."""
    return all(expression.find(objects, is_strict=strict) == {target} for strict in (True, False))


@dataclass
class SentenceWriter:
    """Writes unambiguous sentences and keeps their types at the wanted shares.

    Attributes:
        shares: Wanted share per expression type; sums to 1.
        makers: What proposes sentences of each type.
        counts: Sentences written so far per type.
    """

    shares: dict[str, float]
    makers: Mapping[str, Maker] = field(default_factory=lambda: MAKERS)
    counts: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Start counting."""
        self.counts = dict.fromkeys(self.shares, 0)

    def write(
        self, objects: Sequence[SceneObject], target: int, *, count: int, rng: np.random.Generator
    ) -> list[Meaning]:
        """Return ``count`` different sentences that mean ``objects[target]`` and nothing else.

        Fewer only where many attempts find no further one.
        """
        written: list[Meaning] = []
        for _ in range(count):
            expression = self._write_one(objects, target, written, rng)
            if expression is not None:
                written.append(expression)
                self.counts[expression.type] += 1
        return written

    def _write_one(
        self,
        objects: Sequence[SceneObject],
        target: int,
        written: list[Meaning],
        rng: np.random.Generator,
    ) -> Meaning | None:
        types = tuple(self.shares)
        wanted = types[rng.choice(len(types), p=self._weights())]
        for kind in (wanted, "attribute", "relation", "position"):
            for _ in range(_ATTEMPTS):
                expression = self.makers[kind](objects, target, rng)
                if expression not in written and is_unambiguous(expression, objects, target):
                    return expression
        return None

    def _weights(self) -> np.ndarray:
        total = sum(self.counts.values())
        lag = [
            share * ((share * total + 3) / (self.counts[kind] + 3)) ** 8
            for kind, share in self.shares.items()
        ]
        return np.array(lag) / sum(lag)


def _attribute(objects: Sequence[SceneObject], target: int, rng: np.random.Generator) -> Expression:
    return Expression(describe(objects[target], rng, chances=(0.45, 0.3, 0.8, 0.88)))


def _position(objects: Sequence[SceneObject], target: int, rng: np.random.Generator) -> Expression:
    """Name a place that is needed: what else is said fits another object too."""
    subject = describe(objects[target], rng, chances=(0.1, 0.0, 0.15, 0.5))
    if sum(subject.fits(thing) for thing in objects) < 2:
        subject = Description()
    if rng.random() < 0.5:
        return Expression(subject, extreme=_pick(_EXTREMES, rng))
    return Expression(subject, side=_pick(_SIDES, rng))


def _relation(objects: Sequence[SceneObject], target: int, rng: np.random.Generator) -> Expression:
    others = [thing for i, thing in enumerate(objects) if i != target]
    landmark = others[rng.integers(len(others))]
    return Expression(
        describe(objects[target], rng, chances=(0.0, 0.0, 0.1, 0.85)),
        direction=_pick(_DIRECTIONS, rng),
        landmark=describe(landmark, rng, chances=(0.1, 0.05, 0.85, 0.95)),
    )


MAKERS: Mapping[str, Maker] = {
    "attribute": _attribute,
    "position": _position,
    "relation": _relation,
}


def describe(
    thing: SceneObject, rng: np.random.Generator, *, chances: tuple[float, float, float, float]
) -> Description:
    """Say each of size, pattern, colour and shape with its chance."""
    said = rng.random(4) < chances
    return Description(*(word if say else "" for word, say in zip(thing.look, said, strict=True)))


def _pick(words: dict[str, tuple[int, int]], rng: np.random.Generator) -> str:
    return tuple(words)[rng.integers(len(words))]


def _along(
    direction: tuple[int, int], thing: SceneObject, from_x: float = 0.0, from_y: float = 0.0
) -> float:
    return direction[0] * (thing.x - from_x) + direction[1] * (thing.y - from_y)


def _lead(values: list[float], margin: float) -> set[int]:
    """Return the places of the values that beat every other one by the margin."""
    return {
        i
        for i, value in enumerate(values)
        if all(value > other + margin for j, other in enumerate(values) if j != i)
    }


def _is_towards(
    direction: tuple[int, int], start: SceneObject, thing: SceneObject, *, is_strict: bool
) -> bool:
    """Strict: clearly and mainly in that direction. Generous: at all in that direction."""
    ahead = _along(direction, thing, start.x, start.y)
    aside = abs(_along((direction[1], direction[0]), thing, start.x, start.y))
    return ahead > _MARGIN and ahead >= aside if is_strict else ahead > -_MARGIN / 2


def _parse_description(text: str) -> Description:
    rest = text.split()
    slots = (
        ("size", SIZES),
        ("pattern", ALL_PATTERNS),
        ("color", ALL_COLORS),
        ("shape", ALL_SHAPES),
    )
    said: dict[str, str] = {}
    for name, words in slots:
        if rest and rest[0] in words:
            said[name] = rest.pop(0)
    has_noun = "shape" in said or rest[:1] == ["thing"]
    if not has_noun or rest[0 if "shape" in said else 1 :]:
        raise InputError(f"'{text}' is no description of the embedded grammar; see its docstring.")
    return Description(**said)
