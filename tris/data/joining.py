"""Several sentences become one that means all their objects, as people say it.

"left guy", "woman in red"            -> "the left guy and the woman in red"
"red circle on the left", "rightmost red circle" -> "the two red circles"
"the two circles", "star" -> "the two circles and the star"
"""

import re
from collections.abc import Collection, Sequence

import numpy as np

from tris.data.tokens import normalize
from tris.data.words import (
    FAMILIES,
    FUNCTION_WORDS,
    NUMBERS,
    PLACES,
    PLAIN_NOUNS,
    plural,
    read_claims,
    split_words,
)

_ADJECTIVES = frozenset(
    word
    for family in ("color", "size", "pattern", "posture")
    for words in FAMILIES[family].values()
    for word in words
) | {"young", "old", "dark", "light", "standing", "sitting"}
_OPENERS = FUNCTION_WORDS | frozenset(
    split_words(
        "behind under above below near beside next over between his her their our some "
        "any what where looks look most furthest closest nearest almost partially half"
    )
)
_PREPOSITION = re.compile(r"\b(of|to|above|below|behind|beside|near|under|between|with|in|on|at)\b")
_PLACE_FILLERS = PLACES | frozenset(
    split_words("on in at to from the of most very pic picture photo")
)
_ARTICLE = re.compile(rf"^(?:the|a|an)\s+(?!(?:{'|'.join(NUMBERS.values())})\b)", re.IGNORECASE)
_ADDED = (*split_words("and both the all ,"), *NUMBERS.values(), "things")
_COUNTING = frozenset(["both", "all", *NUMBERS.values()])


def join_expressions(
    sentences: Sequence[str],
    *,
    others: Sequence[str] = (),
    brief_share: float,
    rng: np.random.Generator,
) -> str:
    """Return one sentence about the objects of two or three.

    Args:
        sentences: One per object, all of one image.
        others: Sentences about the image's other objects: a number and a plural ("the two red
            circles") are said only where none of them may mean one more of the kind.
        brief_share: How often plural is used where it can be.
        rng: Chooses among the forms.
    """
    core = shared_core(sentences)
    if core and not _may_mean_more(core, others) and rng.random() < brief_share:
        return say_number(core, len(sentences), rng)
    return _enumerate([_clean(each) for each in sentences], sentences, rng)


def added_words(sentences: Collection[str]) -> set[str]:
    """Return the words that joined or counted sentences have and single ones may lack."""
    said = {word for sentence in sentences for word in normalize(sentence).split()}
    return {*_ADDED, *(plural(noun) for noun in said & PLAIN_NOUNS)}


def shared_core(sentences: Sequence[str]) -> str:
    """Return what sentences that differ only in place have in common; empty where they do not.

    >>> shared_core(["red circle on the left", "rightmost red circle"])
    'red circle'
    >>> shared_core(["man on left", "man in blue"])
    ''
    """
    cores = {_core(sentence) for sentence in sentences}
    return cores.pop() if len(cores) == 1 else ""


def _core(sentence: str) -> str:
    """Return adjectives and noun without the place; empty where something else is said."""
    words = [word for word in normalize(sentence).split() if word not in _PLACE_FILLERS]
    *adjectives, noun = words or [""]
    is_plain = noun in PLAIN_NOUNS and all(word in _ADJECTIVES for word in adjectives)
    return " ".join(words) if is_plain else ""


def _may_mean_more(core: str, others: Sequence[str]) -> bool:
    claim = read_claims(core).subject
    return any(claim.may_hold_for(read_claims(other).subject) for other in others)


def say_number(core: str, number: int, rng: np.random.Generator) -> str:
    """Return a number of two to four and a plural.

    Args:
        core: Adjectives and noun of one.
        number: How many there are.
        rng: Chooses among the forms.
    """
    *adjectives, noun = core.split()
    many = " ".join([*adjectives, plural(noun)])
    if number == 2:
        return f"{('the two', 'both', 'two')[rng.integers(3)]} {many}"
    return f"{('the', 'all')[rng.integers(2)]} {NUMBERS[number]} {many}"


def _clean(sentence: str) -> str:
    return _ARTICLE.sub("", sentence.strip().strip(".,;:!? "))


def _enumerate(parts: list[str], originals: Sequence[str], rng: np.random.Generator) -> str:
    """Say one after the other; what ends in a place comes last, else it would claim the rest."""
    order = sorted(range(len(parts)), key=lambda i: bool(_PREPOSITION.search(parts[i])))
    open_ended = [bool(_PREPOSITION.search(parts[i])) for i in order[:-1]]
    has_articles = any(
        original.strip().lower().startswith(("the ", "a ", "an ")) for original in originals
    )
    wants_articles = any(open_ended) or has_articles or rng.random() < 0.4
    said = [_with_article(parts[i]) if wants_articles else parts[i] for i in order]
    *first, last = said
    is_nested = any(re.search(r"\band\b|,", part) for part in said)
    counts = any(_COUNTING & set(part.lower().split()[:2]) for part in said)
    if len(said) == 2 and not (is_nested or counts) and rng.random() < 0.15:
        return f"both {first[0]} and {last}"
    comma = "," if is_nested else ""
    return f"{', '.join(first)}{comma} and {last}"


def _with_article(part: str) -> str:
    first, _, rest = part.partition(" ")
    word = first.lower()
    is_verb = word.endswith("ing") and bool(_PREPOSITION.match(rest))
    return part if word in _OPENERS or is_verb or not word else f"the {part}"
