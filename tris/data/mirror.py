"""Sentences about the mirrored photograph: left becomes right, three o'clock becomes nine."""

import re
from collections.abc import Sequence
from functools import lru_cache

_CASES = (str.lower, str.capitalize, str.upper)
"""Words written in another way ("LeFt") stay: twice must be the identity."""


def _both_ways(one: str, other: str) -> dict[str, str]:
    pairs = [(case(one), case(other)) for case in _CASES]
    return dict(pairs) | {second: first for first, second in pairs}


PLACE_WORDS = _both_ways("left", "right")
"""What is exchanged inside words such as ``left``, ``Rightmost``, ``leftside``, ``bottomright``."""

TURNS = _both_ways("clockwise", "counterclockwise") | _both_ways("clock wise", "counter clockwise")
"""By what is exchanged; a gap is a space here. Two words become two: twice is the identity."""

_GAP = re.compile(r"[\s-]+")
_TURN = re.compile(
    r"(?<![a-z])(?:(?:counter|anti)[\s-]+)*(?:counter)?clock(?:[\s-]+)?wise(?![a-z])",
    re.ASCII | re.IGNORECASE,
)
"""A turn with all that is said of it: what `TURNS` does not have stays whole."""

_SIDE = re.compile("|".join(PLACE_WORDS))
_WORD_OR_BREAK = re.compile(r"[A-Za-z]+|[,.;:!?()]")
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
_MIRRORED_HOURS = {
    case(hour): case(other)
    for hour, other in zip(_HOURS, [*_HOURS[-2::-1], _HOURS[-1]], strict=True)
    for case in _CASES
} | {str(hour): str(12 - hour % 12) for hour in range(1, 13)}
_CLOCK = re.compile(
    rf"(?<![\w:.])(?:{'|'.join(sorted(_MIRRORED_HOURS, key=len, reverse=True))})"
    r"(?=\s*(?i:o\s*['’]?\s*clock)\b(?![\s-]+(?i:wise)))"
)

_OTHER_WORDS = [
    "bright",
    "upright",
    "fright",
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

_MAKER = re.compile(r"(?:^|[^aeiou])w(?:right|left)$")
"""A playwright, or what the mirror would make of one; "rowright" and "yellowleft" are places."""

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
    "alongside",
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
    "where",
    "angle",
    "angles",
]
"""``right`` in front of these means "directly" ("right behind the tree"), unless it is introduced
as a place ("on the right behind the tree")."""

_UPRIGHT = (("side", "up"), ("way", "up"))
"""Behind a side: no place where the phrase ends there, whatever introduces it."""

_NEAR_PHRASES = (("in", "front"), ("in", "middle"), ("in", "the", "middle"), *_UPRIGHT)

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
    letters, which nobody wrote for a side; ``anticlockwise``, which has no second spelling to give
    it back ("counter clockwise" becomes "clock wise"). Writing in the picture cannot be known.

    >>> mirror_sentence("leftmost man right behind the car on the right")
    'rightmost man right behind the car on the left'
    >>> mirror_sentence("slice at 4 o'clock")
    "slice at 8 o'clock"
    """
    words = [found.group().lower() for found in _WORD_OR_BREAK.finditer(sentence)]
    parts, end = [], 0
    for number, found in enumerate(_WORD_OR_BREAK.finditer(sentence)):
        parts += [sentence[end : found.start()], _mirror_word(found.group(), words, number)]
        end = found.end()
    mirrored = "".join([*parts, sentence[end:]])
    mirrored = _CLOCK.sub(lambda found: _MIRRORED_HOURS[found.group()], mirrored)
    return _TURN.sub(lambda found: _mirror_turn(found.group()), mirrored)


def _mirror_turn(turn: str) -> str:
    gap, mirrored = _GAP.search(turn), TURNS.get(_GAP.sub(" ", turn))
    if gap is None or mirrored is None:
        return mirrored or turn
    return mirrored.replace(" ", gap.group())


def _mirror_word(word: str, words: Sequence[str], number: int) -> str:
    swapped = _SIDE.sub(lambda found: PLACE_WORDS[found.group()], word)
    if swapped == word or {word.lower(), swapped.lower()} & set(_OTHER_WORDS):
        return word
    if _MAKER.search(word.lower()):
        return word
    if not word.lower().startswith(("left", "right")) and not _ends_with_side(word):
        return word
    return word if _is_no_place(words, number) else swapped


def _ends_with_side(word: str) -> bool:
    return word.lower().endswith(("left", "right"))


def _is_no_place(words: Sequence[str], number: int) -> bool:
    """Tell "right behind", "left over" and "only one left" from places; alike for both sides."""
    is_fused = words[number] in ("leftside", "rightside")
    if not is_fused and words[number] not in ("left", "right"):
        return False
    before = words[number - 1] if number else ""
    after = (*(("side",) if is_fused else ()), *words[number + 1 : number + 4])
    if after[:2] in _UPRIGHT and not "".join(after[2:3]).isalpha():
        return True
    if is_fused:
        return after[:2] in _UPRIGHT and before not in _INTRODUCTIONS
    if after[:1] == ("at",) and before in ("looking", "staring"):
        return True
    if (not after or not after[0].isalpha()) and words[max(number - 2, 0) : number] in (
        ["only", "one"],
        ["only", "ones"],
    ):
        return True
    if before in _INTRODUCTIONS:
        return False
    if after[:1] and after[0] in _NEAR_WORDS:
        return True
    return before not in ("looking",) and any(
        after[: len(phrase)] == phrase for phrase in _NEAR_PHRASES
    )
