"""What English sentences about images say, word by word: a small table, no parser.

Enough to tell that "left guy" and "woman in red" cannot mean the same object, that "guy" and "man"
can, and what "red circle" becomes when two are meant. Words that are in no table count as nouns.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tris.data.tokens import normalize


def split_words(text: str) -> tuple[str, ...]:
    """Return the words of a table."""
    return tuple(text.split())


COLORS = (
    *("red", "green", "blue", "yellow", "purple", "orange", "pink", "brown", "black", "white"),
    *("gray", "silver", "gold", "tan", "beige", "cyan", "turquoise", "teal", "magenta", "lime"),
)
SHAPES = (
    *("circle", "square", "triangle", "star", "ring", "cross", "diamond", "heart", "hexagon"),
    *("pentagon", "rectangle", "crescent"),
)

FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    "color": {color: (color,) for color in COLORS} | {"gray": ("gray", "grey")},
    "size": {
        "small": ("small", "little", "tiny", "smaller", "short", "shorter", "lil"),
        "large": ("large", "big", "huge", "larger", "bigger", "tall", "taller", "giant"),
    },
    "pattern": {
        "plain": ("plain", "solid"),
        "striped": ("striped", "stripe", "stripes", "stripey"),
        "dotted": ("dotted", "dot", "dots", "spotted", "polka"),
        "checked": ("checked", "checkered", "plaid"),
    },
    "horizontal": {"left": ("left", "lefty"), "right": ("right", "righty")},
    "vertical": {"top": ("top", "upper"), "bottom": ("bottom", "lower")},
    "depth": {
        "front": ("front", "foreground", "frontmost"),
        "back": ("back", "background", "rear"),
    },
    "gender": {
        "male": ("man", "guy", "dude", "boy", "male", "groom", "dad", "father", "gentleman", "his"),
        "female": (
            *("woman", "lady", "girl", "chick", "female", "gal", "bride", "mom", "mother", "her"),
        ),
    },
    "posture": {"standing": ("standing",), "sitting": ("sitting", "seated")},
    "shape": {shape: (shape,) for shape in SHAPES},
}
"""Family -> value -> words that say it; two values of one family exclude each other."""

PEOPLE = frozenset(
    [
        *FAMILIES["gender"]["male"][:-1],
        *FAMILIES["gender"]["female"][:-1],
        *split_words(
            "person kid child baby player batter catcher umpire skier rider people adult "
            "hitter pitcher surfer skater snowboarder toddler cop driver guys"
        ),
    ]
)
PLACES = frozenset(
    split_words(
        "left right top bottom upper lower middle center centre front back rear far "
        "leftmost rightmost topmost bottommost lowest highest uppermost frontmost corner "
        "side edge hand background foreground furthest farthest closest nearest"
    )
)
SUPERLATIVES = frozenset(
    split_words(
        "leftmost rightmost topmost bottommost lowest highest uppermost frontmost most "
        "smallest largest biggest tallest furthest farthest closest nearest second third "
        "first fourth last middle center centre"
    )
)
"""Words that pick one of several: true of something wherever there is anything of the kind."""

FUNCTION_WORDS = frozenset(
    split_words(
        "the a an of in on at to from by with and or is are that this it its their there "
        "one ones thing things object objects item pic picture photo image screen frame "
        "very all both two three just only be who which has have not no you your my"
    )
)

NUMBERS = {2: "two", 3: "three", 4: "four"}
"""How many objects of a kind a composed sentence can count."""

_RELATION = re.compile(
    r"\b(?:(?:to )?(?:the )?(?:left|right) of|in front of|on top of|(?:next|close|closest|nearest) "
    r"to|beside|behind|above|below|under|underneath|near|between)\b(?! (?:the )?(?:pic|picture|"
    r"photo|image|screen|frame)\b)"
)
_SAME_THING = {
    word: names[0]
    for names in (
        ("couch", "sofa", "loveseat"),
        ("motorcycle", "motorbike"),
        ("bike", "bicycle"),
        ("plane", "airplane", "aeroplane", "jet"),
        ("car", "automobile", "cab", "taxi", "suv", "sedan"),
        ("tv", "television"),
        ("phone", "cellphone", "smartphone"),
        ("suitcase", "luggage"),
        ("cup", "mug"),
        ("donut", "doughnut"),
        ("fridge", "refrigerator"),
        ("cat", "kitty", "kitten"),
        ("dog", "puppy", "pup", "doggy"),
        ("cow", "bull", "calf", "ox"),
        ("sheep", "lamb"),
        ("horse", "pony"),
    )
    for word in names
}
"""Word -> a word that is true of all that it is said of."""

PLAIN_NOUNS = frozenset(
    [
        *SHAPES,
        *split_words(
            "person man woman guy girl boy lady dude kid child baby player batter catcher "
            "skier rider bicycle bike car motorcycle airplane plane bus train truck boat van "
            "bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella "
            "bag tie suitcase frisbee ski snowboard kite bat glove skateboard surfboard "
            "racket bottle glass cup fork knife spoon bowl banana apple sandwich orange "
            "broccoli carrot pizza donut cake chair couch sofa plant bed table toilet tv "
            "laptop mouse remote keyboard phone oven sink book clock vase toothbrush plate "
            "slice hat shirt seat screen monitor piece pillow box case mug animal"
        ),
    ]
)
"""Nouns whose plural is known to be said."""

_BROAD = frozenset(split_words("animal creature vehicle food fruit furniture dish toy stuff"))
"""Nouns for things of many kinds: what another noun says of a thing may be true beside them."""

_IRREGULAR = {
    **{"man": "men", "woman": "women", "person": "people", "child": "children", "knife": "knives"},
    **{"sheep": "sheep", "foot": "feet", "mouse": "mice", "loaf": "loaves", "broccoli": "broccoli"},
    **{"leaf": "leaves", "shelf": "shelves", "calf": "calves", "scarf": "scarves", "ox": "oxen"},
    **{"tomato": "tomatoes", "potato": "potatoes", "tooth": "teeth", "goose": "geese"},
}
_VALUES = {
    word: (family, value)
    for family, values in FAMILIES.items()
    for value, words in values.items()
    for word in words
}


@dataclass(frozen=True)
class Claim:
    """What is said of one object.

    Attributes:
        nouns: Words for what it is, and whatever else is in no table; people are ``person``.
        attributes: Pairs of family and value.
    """

    nouns: frozenset[str] = frozenset()
    attributes: frozenset[tuple[str, str]] = frozenset()

    def join(self, others: Iterable["Claim"]) -> "Claim":
        """Return all that is said in several claims about the same object."""
        every = (self, *others)
        return Claim(
            frozenset[str]().union(*(each.nouns for each in every)),
            frozenset[tuple[str, str]]().union(*(each.attributes for each in every)),
        )

    def contradicts(self, other: "Claim") -> bool:
        """Say whether both speak of the same family and agree on no value of it."""
        for family in {name for name, _ in self.attributes}:
            mine = {value for name, value in self.attributes if name == family}
            theirs = {value for name, value in other.attributes if name == family}
            if theirs and not mine & theirs:
                return True
        return False

    def may_hold_for(self, known: "Claim") -> bool:
        """Say whether an object of which ``known`` is said may be one that fits this claim.

        What is not said of it may be true. Where both say what it is, a word must be common; words
        for the same thing ("couch", "sofa") are one as far as the table of them goes.
        """
        if self.contradicts(known):
            return False
        mine, theirs = self.nouns - _BROAD, known.nouns - _BROAD
        return not mine or not theirs or bool(mine & theirs)


@dataclass(frozen=True)
class Reading:
    """A sentence as claims.

    Attributes:
        subject: What it says of the object meant.
        landmark: What it says of the object that a place is relative to, if any.
    """

    subject: Claim
    landmark: Claim | None = None


@lru_cache(maxsize=1 << 17)
def read_claims(sentence: str) -> Reading:
    """Return what a sentence says; "left of the dog" says nothing of the picture's left."""
    text = normalize(sentence)
    relation = _RELATION.search(text)
    if relation is None:
        return Reading(_claim(text))
    landmark = _claim(text[relation.end() :])
    has_one = bool(landmark.nouns or landmark.attributes)
    return Reading(_claim(text[: relation.start()]), landmark if has_one else None)


def singular(word: str) -> str:
    """Return a noun without its plural ending.

    >>> [singular(word) for word in ("circles", "glasses", "men", "buses", "bus", "ladies")]
    ['circle', 'glass', 'man', 'bus', 'bus', 'lady']
    """
    if word in _SINGULARS:
        return _SINGULARS[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3
    return word[:-1] if is_plural else word


def plural(noun: str) -> str:
    """Return a noun in the plural.

    >>> [plural(noun) for noun in ("circle", "man", "glass", "lady", "bus", "cross", "toy")]
    ['circles', 'men', 'glasses', 'ladies', 'buses', 'crosses', 'toys']
    """
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


_SINGULARS = {
    plural(noun): noun
    for noun in (
        *(*PLAIN_NOUNS, *_SAME_THING, *_IRREGULAR),
        *split_words("cookie brownie veggie hoodie mustache"),
    )
}
"""Nouns by their plural, whose ending alone would not give away all of them."""


def family_of(word: str) -> tuple[str, str] | None:
    """Return family and value of a word, None where it is in no table."""
    return _VALUES.get(word)


def _claim(text: str) -> Claim:
    words = text.split()
    picks_one = bool(SUPERLATIVES & set(words))
    nouns, attributes = set(), set()
    for word in words:
        found = _VALUES.get(word) or _VALUES.get(singular(word))
        if word in FUNCTION_WORDS and not found:
            continue
        if found and not (picks_one and found[0] in ("horizontal", "vertical", "depth")):
            attributes.add(found)
        if singular(word) in PEOPLE:
            nouns.add("person")
        elif found and found[0] == "shape":
            nouns.add(found[1])
        elif not found and word not in PLACES and word not in SUPERLATIVES:
            noun = singular(word)
            nouns.add(_SAME_THING.get(noun, noun))
    return Claim(frozenset(nouns), frozenset(attributes))
