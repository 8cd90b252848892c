"""Sentences about all objects of a kind: "both red things", "the three large circles".

Which objects are of a kind is read off what the sentences of the image say of each of them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tris.data.joining import say_number
from tris.data.words import FAMILIES, NUMBERS, PLAIN_NOUNS, SHAPES, Claim

MOST_COUNTED = max(NUMBERS)
"""Objects of a kind; of more, nobody says how many there are."""

_ORDER = ("size", "pattern", "color")
"""Families of attributes that are said, in the order in which English has them."""

_ATTEMPTS = 12
_NOUN_SHARE = 0.6
_ATTRIBUTE_SHARE = 0.5
"""How often each is said: kinds of one to three words come out, those of one word most often."""

_EXCLUSIVE_NOUNS = frozenset([*SHAPES, "person"])
"""What is one of these is none of the others; of other nouns ("couch", "bench") one cannot know."""


class Counted(NamedTuple):
    """A sentence, and the rows of all objects that it means."""

    sentence: str
    rows: tuple[int, ...]


def count_kind(
    known: Mapping[int, Claim],
    row: int,
    *,
    landmarks: Sequence[Claim] = (),
    rng: np.random.Generator,
) -> Counted | None:
    """Return a sentence about one object and all others of some kind; None where there is none.

    A kind is some of what is said of the object. It is counted only if every object of the image
    surely is of that kind or surely is not, as far as its sentences say, and two to four are. An
    object that no sentence speaks of is not known of.

    Args:
        known: What is said of each object of the image, by row.
        row: Whose kinds are tried.
        landmarks: What is said of further objects, which nothing may be of the kind.
        rng: Chooses kind and form.
    """
    said, claim = _values_by_family(known[row]), known[row]
    nouns = sorted(claim.nouns & PLAIN_NOUNS) if len(claim.nouns) == 1 else []
    for _ in range(_ATTEMPTS):
        noun = nouns[rng.integers(len(nouns))] if nouns and rng.random() < _NOUN_SHARE else ""
        chosen = [
            (family, said[family])
            for family in _ORDER
            if family in said and rng.random() < _ATTRIBUTE_SHARE
            if family != "size" or not noun or noun in SHAPES
        ]
        if not noun and not chosen:
            continue
        kind = Claim(frozenset({noun} - {""}), frozenset(chosen))
        sure = tuple(each for each in sorted(known) if _is_surely(kind, known[each]))
        others = [*(other for each, other in known.items() if each not in sure), *landmarks]
        if 2 <= len(sure) <= MOST_COUNTED and all(_is_surely_not(kind, each) for each in others):
            words = [*(FAMILIES[family][value][0] for family, value in chosen), noun or "thing"]
            return Counted(say_number(" ".join(words), len(sure), rng), sure)
    return None


def _values_by_family(claim: Claim) -> dict[str, str]:
    """Return the value of each family of which exactly one is said."""
    values: dict[str, list[str]] = {}
    for family, value in sorted(claim.attributes):
        values.setdefault(family, []).append(value)
    return {family: each[0] for family, each in values.items() if len(each) == 1}


def _is_surely(kind: Claim, known: Claim) -> bool:
    has_noun = not kind.nouns or kind.nouns == known.nouns
    return has_noun and kind.attributes <= _values_by_family(known).items()


def _is_surely_not(kind: Claim, known: Claim) -> bool:
    is_other = (
        len(known.nouns) == 1
        and bool(kind.nouns)
        and kind.nouns != known.nouns
        and kind.nouns | known.nouns <= _EXCLUSIVE_NOUNS
    )
    return is_other or kind.contradicts(known)
