import numpy as np
import pytest

from tris.data.counting import count_kind
from tris.data.words import read_claims

SCENE = ("small red circle", "small red square", "large blue circle", "large green star")


def claims(*sentences):
    return {row: read_claims(sentence).subject for row, sentence in enumerate(sentences)}


def all_counted(*sentences, row=0, landmarks=()):
    """Return rows by sentence, of many draws."""
    drawn = (
        count_kind(
            claims(*sentences),
            row,
            landmarks=[read_claims(each).subject for each in landmarks],
            rng=np.random.default_rng(seed),
        )
        for seed in range(200)
    )
    return {counted.sentence: counted.rows for counted in drawn if counted is not None}


def test_all_objects_of_a_kind_are_meant():
    counted = all_counted(*SCENE)
    assert counted["both red things"] == (0, 1)
    assert counted["two circles"] == (0, 2)
    assert counted["the two small red things"] == (0, 1)
    assert set(counted.values()) == {(0, 1), (0, 2)}


def test_the_kind_is_one_of_the_object():
    assert set(all_counted(*SCENE, row=3).values()) == {(2, 3)}
    assert not all_counted(*SCENE[:2], "large green star", row=2)


@pytest.mark.parametrize("unsure", ["thing on the left", "small thing", "circle"])
def test_an_object_of_which_the_kind_may_hold_forbids_to_count(unsure):
    counted = all_counted("red circle", "red circle on top", unsure)
    assert not any("red circles" in sentence for sentence in counted)


def test_a_landmark_that_is_no_row_may_be_of_the_kind():
    assert all_counted("red circle", "red star", landmarks=["blue circle"])
    assert not all_counted("red circle", "red star", landmarks=["red square"])


def test_of_an_object_that_people_describe_differently_nothing_is_sure():
    known = claims("red circle", "red circle", "blue square")
    known[1] = known[1].join([read_claims("orange circle").subject])
    drawn = [count_kind(known, 0, rng=np.random.default_rng(seed)) for seed in range(100)]
    assert {each.rows for each in drawn if each} == {(0, 1)}
    assert not any("red" in each.sentence for each in drawn if each)


@pytest.mark.parametrize(("count", "is_said"), [(1, False), (4, True), (5, False)])
def test_two_to_four_are_counted(count, is_said):
    counted = all_counted(*["red star"] * count, "blue square")
    assert bool(counted) == is_said
    assert all("four" in sentence for sentence in counted)


def test_people_are_counted_as_people():
    counted = all_counted("man in red", "woman in red", "brown thing")
    assert "both red people" in counted
    assert set(counted.values()) == {(0, 1)}


@pytest.mark.parametrize(
    "sentences",
    [
        ("man with a hat", "woman with a hat"),
        ("red couch", "red couch", "settee"),
        ("man", "woman", "outfielder"),
        ("tall man", "tall woman", "short circle"),
    ],
)
def test_no_noun_is_counted_that_may_not_be_the_kind(sentences):
    counted = all_counted(*sentences)
    assert not any(word in each for each in counted for word in ("hats", "couches", "large people"))
    if "outfielder" in sentences:
        assert not counted


def test_a_sofa_is_a_couch():
    assert {"both couches", "both red couches"} <= set(all_counted("red couch", "red sofa"))
