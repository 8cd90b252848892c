import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tris.data.mirror import mirror_sentence

PLACES = {
    "left guy": "right guy",
    "the leftmost circle": "the rightmost circle",
    "person on the right": "person on the left",
    "second from left to right": "second from right to left",
    "Left, not RIGHT!": "Right, not LEFT!",
    "left-hand corner": "right-hand corner",
    "his left arm": "his right arm",
    "bottomright piece, leftside": "bottomleft piece, rightside",
    "the leftest one thats rightish": "the rightest one thats leftish",
    "third clockwise from the top": "third counterclockwise from the top",
    "circle right of the red square": "circle left of the red square",
    "apple just right of bottom center": "apple just left of bottom center",
    "dude on right next to lady": "dude on left next to lady",
    "to the right behind bear": "to the left behind bear",
    "apple top right in front": "apple top left in front",
    "sheep looking left in front": "sheep looking right in front",
    "man facing left behind shelves": "man facing right behind shelves",
    "left, next to the door": "right, next to the door",
    "Clockwise from the top": "Counterclockwise from the top",
    "second counter clockwise": "second clock wise",
    "Counter-clockwise from the left": "Clock-wise from the right",
    "clockwise, then counter clockwise": "counterclockwise, then clock wise",
    "clockwise at 3 oclock": "counterclockwise at 9 oclock",
    "yellowright rowleft": "yellowleft rowright",
    "man on the rightside up front": "man on the leftside up front",
    "back on the right side up high": "back on the left side up high",
}
CLOCKS = {
    "slice at 9 oclock": "slice at 3 oclock",
    "1 o'clock": "11 o'clock",
    "4 o clock slice": "8 o clock slice",
    "10 oclock": "2 oclock",
    "12 oclock": "12 oclock",
    "pizza at 6 oclock": "pizza at 6 oclock",
    "Three o'clock": "Nine o'clock",
    "ONE O'CLOCK": "ELEVEN O'CLOCK",
    "12 o'clock": "12 o'clock",
    "twelve o’clock": "twelve o’clock",
}
NO_PLACES = [
    "person standing right behind the tennis racket",
    "pizza right next to piece gone",
    "guy right in middle of screen",
    "skier right in front of us",
    "zebra right in front of your face",
    "elephant looking right at me",
    "dog right alongside the truck",
    "bench right where the path ends",
    "cup standing right way up, rightside up",
    "cup that is the right way up",
    "the bottle with the right side up",
    "left over pizza",
    "leftover pizza, the brighter one",
    "the only one left",
    "the only one left.",
    "oNe o'clock",
    "ſix o'clock",
    "LeFt",
    "upright bright copyright alright",
    "playwright on stage, Wainwright and wright",
    "playwleft",
    "anticlockwise, anti-clockwise, anti clockwise",
    "counter counter clockwise",
    "counter clock wise",
    "Counter-Clockwise",
    "southwest plane",
    "the clock at 12",
    "number 3",
    "",
]


@pytest.mark.parametrize(("sentence", "expected"), {**PLACES, **CLOCKS}.items())
def test_sides_and_hours_are_exchanged_both_ways(sentence, expected):
    assert mirror_sentence(sentence) == expected
    assert mirror_sentence(expected) == sentence


@pytest.mark.parametrize("sentence", NO_PLACES)
def test_what_is_no_place_stays(sentence):
    assert mirror_sentence(sentence) == sentence


VOCABULARY = (
    "left right Left RIGHT leftmost rightmost leftover upright bright next to behind in front the "
    "middle at looking only one over all on far 3 12 o'clock oclock clock three Nine , . - \n é "
    "clockwise counterclockwise side up bleft rightleft counter anti wise clock-wise o "
    "counter-clockwise Counter playwright wright wleft way where alongside rightside leftside"
)


@given(st.lists(st.sampled_from(VOCABULARY.split(" "))).map(" ".join) | st.text())
def test_twice_is_the_identity_on_any_text(sentence):
    assert mirror_sentence(mirror_sentence(sentence)) == sentence


@pytest.fixture(scope="module")
def sentences(shared_data) -> list[str]:
    files = sorted((shared_data / "expressions").glob("*.tsv"))
    return [row.split("\t")[3] for each in files for row in each.read_text().splitlines()[1:]]


def masked(sentence: str) -> str:
    """Return the sentence with one sign for either side, and for any hour."""
    sentence = re.sub("left|right", "@", sentence)
    sentence = re.sub(r"\b\d+(?= ?o ?clock)", "#", sentence)
    return re.sub("(counter)?clockwise", "~", sentence)


class TestSentencesOfPeople:
    def test_there_are_many(self, sentences):
        assert len(sentences) > 21_000

    def test_twice_is_the_identity(self, sentences):
        assert all(mirror_sentence(mirror_sentence(each)) == each for each in sentences)

    def test_nothing_but_sides_and_hours_changes(self, sentences):
        assert all(masked(mirror_sentence(each)) == masked(each) for each in sentences)

    def test_sentences_without_a_side_stay(self, sentences):
        plain = [each for each in sentences if masked(each) == each]
        assert len(plain) > 10_000
        assert all(mirror_sentence(each) == each for each in plain)

    def test_nearly_every_side_is_exchanged(self, sentences):
        words = re.compile(r"\b(?:left|right)\w*")
        kept = [each for each in sentences if words.search(each) and mirror_sentence(each) == each]
        assert 20 < len(kept) < 80
        directly = [each for each in kept if re.search(r"\bright\b", each)]
        assert len(directly) > 0.75 * len(kept)
