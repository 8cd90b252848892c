"""The probe of benchmarks/place_words.py: which words it swaps, and where peaks should go."""

import numpy as np
import pytest

from benchmarks.place_words import find_mirror, find_swap, images_of, judge
from tris.data.masks import encode_mask
from tris.data.referent import Referent


def make_referent(x: int, y: int, *sentences: str, image_id: int = 1) -> Referent:
    mask = np.zeros((20, 20), np.uint8)
    mask[y : y + 2, x : x + 2] = 1
    return Referent(
        referent_id=x, image_id=image_id, file_name="a.png", height=20, width=20,
        expression_ids=(1,), sentences=sentences, raw_sentences=sentences, mask=encode_mask(mask),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sentence", "swapped", "axis", "sign"),
    [
        ("star on the left", "star on the right", 0, 1),
        ("rightmost thing", "leftmost thing", 0, -1),
        ("thing at the top", "thing at the bottom", 1, 1),
        ("lowest circle", "topmost circle", 1, -1),
    ],
)
def test_a_side_is_swapped(sentence, swapped, axis, sign):
    swap = find_swap(sentence)
    assert (swap.swapped, swap.axis, swap.sign, swap.is_relation) == (swapped, axis, sign, False)


@pytest.mark.parametrize(
    "sentence",
    [
        "red star", "star right behind the ring", "left to right", "top left star",
        "second star from the left", "3rd from right", "next to last on the left",
    ],
)  # fmt: skip
def test_what_has_no_single_side_is_left_out(sentence):
    assert find_swap(sentence) is None


def test_referents_of_an_image_need_not_lie_together():
    one, other, apart = (
        make_referent(x, 5, "star", image_id=image) for x, image in ((1, 1), (2, 2), (3, 1))
    )
    assert list(images_of([one, other, apart])) == [[one, apart], [other]]


@pytest.mark.parametrize("sentence", ["circle left of the star", "circle above the star"])
def test_a_relation_has_no_mirror_object(sentence):
    swap = find_swap(sentence)
    assert swap.is_relation
    others = [make_referent(15, 5, "circle"), make_referent(15, 15, "circle star")]
    assert find_mirror(swap, make_referent(2, 5, sentence), others) is None


def test_the_mirror_object_is_the_farthest_of_the_kind_on_the_other_side():
    swap, own = find_swap("leftmost star"), make_referent(5, 5, "leftmost star")
    near, far = make_referent(9, 2, "small star"), make_referent(12, 9, "red star")
    other_kind, same_side = make_referent(17, 5, "ring"), make_referent(1, 5, "star")
    assert find_mirror(swap, own, [near, other_kind, far, same_side]) is far
    assert find_mirror(swap, own, [other_kind, same_side]) is None


@pytest.mark.parametrize(
    "said",
    [
        "star below the square", "star left of a square", "star right of the square",
        "star above the square", "star next to the larger square",
        "star between the ring and the square",
    ],
)  # fmt: skip
def test_a_landmark_does_not_make_an_object_the_mirror_object(said):
    swap, own = find_swap("rightmost square"), make_referent(15, 5, "rightmost square")
    assert find_mirror(swap, own, [make_referent(1, 5, said)]) is None
    square = make_referent(6, 5, said, "square next to the star")
    assert find_mirror(swap, own, [make_referent(1, 5, said), square]) is square


@pytest.mark.parametrize(
    ("before", "after", "crossed", "is_in_mirror"),
    [
        ((3, 5), (16, 6), True, True),
        ((3, 5), (13, 6), True, False),
        ((3, 5), (3, 5), False, False),
        ((16, 6), (16, 6), False, True),
    ],
)
def test_a_peak_crosses_the_middle_or_stays(before, after, crossed, is_in_mirror):
    swap, own = find_swap("star on the left"), make_referent(2, 5, "star on the left")
    mirror = make_referent(16, 5, "star")
    finding = judge(swap, own, mirror, before=before, after=after)
    assert (finding.crossed, finding.is_in_mirror) == (crossed, is_in_mirror)
    assert finding.moved == pytest.approx(np.hypot(after[0] - before[0], after[1] - before[1]))


def test_without_a_mirror_object_only_the_way_is_known():
    own = make_referent(2, 5, "star on the left")
    finding = judge(find_swap("star on the left"), own, None, before=(0, 0), after=(3, 4))
    assert finding.crossed is None
    assert finding.moved == 5.0
