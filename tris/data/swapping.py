"""One attribute of a sentence replaced by another: "red circle" -> "green circle"."""

import re
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from tris.data.words import COLORS, SHAPES, read_claims

_OPPOSITES = (
    *(("left", "right"), ("top", "bottom"), ("upper", "lower"), ("above", "below")),
    *(("front", "back"), ("small", "large"), ("little", "big"), ("smaller", "larger")),
    *(("smaller", "bigger"), ("short", "tall"), ("shorter", "taller"), ("plain", "striped")),
    *(("man", "woman"), ("guy", "girl"), ("boy", "girl"), ("guy", "lady"), ("dude", "chick")),
    *(("standing", "sitting"), ("striped", "dotted"), ("dotted", "checked"), ("plain", "dotted")),
)
_ALTERNATIVES: dict[str, tuple[str, ...]] = {
    **{color: tuple(each for each in COLORS if each != color) for color in COLORS},
    **{shape: tuple(each for each in SHAPES if each != shape) for shape in SHAPES},
}
for _first, _second in _OPPOSITES:
    _ALTERNATIVES[_first] = (*_ALTERNATIVES.get(_first, ()), _second)
    _ALTERNATIVES[_second] = (*_ALTERNATIVES.get(_second, ()), _first)

_DIRECTIONS = {"left", "right", "above", "below"}


class Swap(NamedTuple):
    """A sentence with one word replaced.

    Attributes:
        sentence: The new sentence; all else is spelled as it was.
        turns_relation: Whether a direction from a landmark was turned round ("left of the dog"):
            the object that the old sentence means then cannot be meant.
    """

    sentence: str
    turns_relation: bool


def list_swaps(sentence: str, *, vocabulary: Collection[str]) -> list[Swap]:
    """Return every sentence that is made by replacing one attribute, in a fixed order.

    Superlatives (leftmost, smallest) are never replaced: some object is always the rightmost.

    Args:
        sentence: A true sentence.
        vocabulary: Words that may be put in: those that the data set's own sentences use, so that
            a swapped sentence cannot be told by a rare word.
    """
    pieces = re.findall(r"[^\W_]+|[\W_]+", unicodedata.normalize("NFKC", sentence))
    places = [number for number, piece in enumerate(pieces) if piece[0].isalnum()]
    words, landmark = [pieces[each].lower() for each in places], read_claims(sentence).landmark
    swaps = []
    for place, word in enumerate(words):
        turns = landmark is not None and word in _DIRECTIONS and _starts_relation(words, place)
        for other in _ALTERNATIVES.get(word, ()):
            if other in vocabulary:
                before, old = pieces[: places[place]], pieces[places[place]]
                new = other.capitalize() if old[0].isupper() else other
                swapped = "".join([*before, new, *pieces[places[place] + 1 :]])
                swaps.append(Swap(swapped, turns))
    return swaps


def _starts_relation(words: list[str], place: int) -> bool:
    rest = " ".join(words[place:])
    return bool(re.match(r"(?:left|right) of\b|above\b|below\b", rest))
