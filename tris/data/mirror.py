"""Sentences about the mirrored photograph: left becomes right, three o'clock becomes nine."""

import re
from collections.abc import Sequence
from functools import lru_cache

_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
PLACE_WORDS = {one: other for pair in _SIDES for one, other in (pair, pair[::-1])}
"""What is exchanged inside words such as ``left``, ``Rightmost``, ``leftside``, ``bottomright``."""

TURNS = {"clockwise": "counterclockwise", "counterclockwise": "clockwise"}

_SIDE = re.compile("|".join(PLACE_WORDS))
_WORD = re.compile(r"[A-Za-z]+")
_HOURS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_CLOCK = re.compile(
    rf"(?<![\w:.])(1[0-2]|[1-9]|{'|'.join(_HOURS)})(?=\s*o\s*['’]?\s*clock\b)", re.IGNORECASE
)

_OTHER_WORDS = [
    "bright",
    "upright",
    "fright",
    "wright",
    "alright",
    "outright",
    "downright",
    "copyright",
    "birthright",
    "forthright",
    "cleft",
    "leftover",
    "leftovers",
    "righteous",
]
"""Contain a side and mean none."""

_NEAR_WORDS = [
    "next",
    "behind",
    "above",
    "below",
    "under",
    "underneath",
    "beneath",
    "beside",
    "besides",
    "between",
    "against",
    "by",
    "over",
    "after",
    "before",
    "now",
    "away",
    "here",
    "there",
    "angle",
    "angles",
]
"""``right`` in front of these means "directly" ("right behind the tree"), unless it is introduced
as a place ("on the right behind the tree")."""

_NEAR_PHRASES = (("in", "front"), ("in", "middle"), ("in", "the", "middle"), ("side", "up"))

_INTRODUCTIONS = [
    "on",
    "the",
    "at",
    "to",
    "from",
    "in",
    "far",
    "top",
    "bottom",
    "upper",
    "lower",
    "front",
    "back",
    "middle",
    "center",
    "centre",
    "very",
    "farthest",
    "furthest",
    "most",
    "extreme",
    "way",
    "facing",
    "toward",
    "towards",
]
"""A side after these is a place whatever follows."""


@lru_cache(maxsize=1 << 16)
def mirror_sentence(sentence: str) -> str:
    """Return what the sentence has to say of the photograph mirrored left to right.

    Sides and hours of a clock face are exchanged; everything else stays, letter by letter. Twice is
    the identity, for any text. ``right`` that means "directly" ("right next to", "right in front
    of") stays. So that twice is the identity, ``left`` stays there too ("chair left behind parrot":
    5 of 21,586 sentences of RefCOCO's three evaluation splits, against 40 for ``right``).

    Not exchanged: compass points (``southwest`` is an airline there, ``east`` came once) and single
    letters, which nobody wrote for a side. Writing in the picture cannot be known.

    >>> mirror_sentence("leftmost man right behind the car on the right")
    'rightmost man right behind the car on the left'
    >>> mirror_sentence("slice at 4 o'clock")
    "slice at 8 o'clock"
    """
    words = [found.group().lower() for found in _WORD.finditer(sentence)]
    parts, end = [], 0
    for number, found in enumerate(_WORD.finditer(sentence)):
        parts += [sentence[end : found.start()], _mirror_word(found.group(), words, number)]
        end = found.end()
    return _CLOCK.sub(_mirror_hour, "".join([*parts, sentence[end:]]))


def _mirror_word(word: str, words: Sequence[str], number: int) -> str:
    if word in TURNS:
        return TURNS[word]
    swapped = _SIDE.sub(lambda found: PLACE_WORDS[found.group()], word)
    if swapped == word or {word.lower(), swapped.lower()} & set(_OTHER_WORDS):
        return word
    if not word.lower().startswith(("left", "right")) and not _ends_with_side(word):
        return word
    return word if _is_no_place(words, number) else swapped


def _ends_with_side(word: str) -> bool:
    return word.lower().endswith(("left", "right"))


def _is_no_place(words: Sequence[str], number: int) -> bool:
    """Tell "right behind", "left over" and "only one left" from places; alike for both sides."""
    if words[number] not in ("left", "right"):
        return False
    before = words[number - 1] if number else ""
    after = tuple(words[number + 1 : number + 4])
    if after[:1] == ("at",) and before in ("looking", "staring"):
        return True
    if not after and words[max(number - 2, 0) : number] in (["only", "one"], ["only", "ones"]):
        return True
    if before in _INTRODUCTIONS:
        return False
    if after[:1] and after[0] in _NEAR_WORDS:
        return True
    return before not in ("looking",) and any(
        after[: len(phrase)] == phrase for phrase in _NEAR_PHRASES
    )


def _mirror_hour(found: re.Match[str]) -> str:
    hour = found.group()
    if hour.isdigit():
        return str(12 - int(hour) % 12) if int(hour) != 12 else hour
    number = _HOURS.index(hour.lower()) + 1
    name = hour if number == 12 else _HOURS[11 - number]
    return name.capitalize() if hour[0].isupper() else name
