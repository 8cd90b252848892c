from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tris.data.index import Referent
from tris.errors import InputError
from tris.pseudo.contest import CompetitionConfig, Contest, Rest
from tris.pseudo.rivals import (
    find_kinship,
    join_alike,
    overlaps,
    plan_contests,
    separate_contests,
)

CONFIG = CompetitionConfig()


def referent(*sentences, ids=(), is_no_target=False):
    return Referent(
        referent_id=0, image_id=0, file_name="a.jpg", height=4, width=4,
        expression_ids=tuple(range(len(sentences))), sentences=sentences, raw_sentences=sentences,
        annotation_ids=ids, is_no_target=is_no_target,
    )  # fmt: skip


def contests(*referents, **changes):
    return plan_contests(find_kinship(referents, replace(CONFIG, **changes)))


def test_different_objects_are_rivals_and_share_one_contest():
    image = [referent("red ball", ids=(1,)), referent("blue ball", ids=(2,))]
    kinship = find_kinship(image, CONFIG)
    np.testing.assert_array_equal(kinship.rivals, [[False, True], [True, False]])
    assert plan_contests(kinship) == (Contest(((0,), (1,)), 2),)


def test_equal_annotation_ids_are_the_same_object():
    image = [referent("red ball", ids=(1,)), referent("the toy", ids=(1,)), referent("a", ids=(2,))]
    assert contests(*image) == (Contest(((0, 1), (2,)), 2),)


def test_annotation_ids_are_not_read_where_the_config_forbids_it():
    image = [referent("red ball", ids=(1,)), referent("the toy", ids=(1,))]
    assert contests(*image, uses_annotation_ids=False) == (Contest(((0,), (1,)), 2),)


@pytest.mark.parametrize("ids", [((), ()), ((1,), (2,))])
def test_equal_sentences_are_the_same_object_whatever_their_spelling(ids):
    image = [referent("Red ball!", ids=ids[0]), referent("red  ball", ids=ids[1])]
    assert contests(*image) == (Contest(((0, 1),), 1),)


def test_one_sentence_of_three_in_common_is_a_slip_and_half_of_them_are_not():
    first = referent("man", "left man", "man in red")
    assert not find_kinship([first, referent("man", "right man", "him")], CONFIG).same[0, 1]
    assert find_kinship([first, referent("man", "right man")], CONFIG).same[0, 1]
    never = replace(CONFIG, shared_sentences=1.1)
    assert not find_kinship([first, first], never).same[0, 1]


def test_a_sentence_for_two_objects_does_not_compete_with_those_for_one_of_them():
    one, two = referent("left cup", ids=(1,)), referent("right cup", ids=(2,))
    both, third = referent("both cups", ids=(2, 1)), referent("plate", ids=(3,))
    common, own = contests(one, both, two, third)
    assert common == Contest(((0,), (2,), (3,)), 3)
    assert own == Contest(((1,), (3,)), 1)


def test_objects_that_only_a_composite_speaks_of_compete_where_there_are_strangers():
    both, one = referent("both cups", ids=(1, 2)), referent("left cup", ids=(1,))
    plate = referent("plate", ids=(3,))
    common, own = contests(one, both, plate)
    assert common == Contest(((0,), (2,)), 2, rests=(Rest((1,), ((0,),)),))
    assert common.involved == {0, 1, 2}
    assert own == Contest(((1,), (2,)), 1)
    assert contests(one, both) == (Contest(((0,),), 1), Contest(((1,),), 1))


def test_composites_that_share_an_object_without_a_sentence_have_a_rest_each():
    sets = [(1, 2), (2, 3), (3,), (4,)]
    common, *_ = contests(*(referent(f"sentence {each}", ids=each) for each in sets))
    assert common == Contest(((2,), (3,)), 2, rests=(Rest((0,), ()), Rest((1,), ((2,),))))


def test_composites_that_share_nothing_are_apart_and_those_that_do_are_not():
    sets = [(1, 2), (1,), (3, 4), (4,), (2, 5)]
    _, *own = contests(*(referent(f"sentence {each}", ids=each) for each in sets))
    assert own == [
        Contest(((0,), (3,)), 1, ((2,),)),
        Contest(((2,), (1,)), 1, ((0,), (4,))),
        Contest(((4,), (1,), (3,)), 1, ((2,),)),
    ]


def test_a_sentence_for_two_objects_that_have_no_others_competes_like_any():
    assert contests(referent("both", ids=(1, 2)), referent("plate", ids=(3,))) == (
        Contest(((0,), (1,)), 2),
    )


def test_sentences_that_overlap_in_one_object_have_a_contest_each():
    image = [referent("first two", ids=(1, 2)), referent("last two", ids=(2, 3))]
    assert contests(*image) == (Contest(((0,),), 1), Contest(((1,),), 1))


def test_a_sentence_about_nothing_is_nobodys_rival():
    image = [referent("cup", ids=(1,)), referent("cup", is_no_target=True), referent("b", ids=(2,))]
    kinship = find_kinship(image, CONFIG)
    assert not kinship.rivals[1].any()
    assert not kinship.rivals[:, 1].any()
    assert plan_contests(kinship) == (Contest(((0,), (2,)), 2), Contest(((1,),), 1))


def test_without_competition_everyone_is_alone():
    assert separate_contests(2) == (Contest(((0,),), 1), Contest(((1,),), 1))


def square(rows, size=4):
    mask = np.zeros((size, size), dtype=bool)
    mask[rows] = True
    return mask


@pytest.mark.parametrize(("alike", "overlap"), [(True, 0.4), (True, 0.9), (False, 0.4)])
def test_maps_join_referents_only_if_they_overlap_and_nothing_tells_them_apart(alike, overlap):
    kinship = find_kinship([referent("cup", ids=(1,)), referent("mug", ids=(2,))], CONFIG)
    foregrounds = np.stack([square(slice(0, 2)), square(slice(0, 1))])  # IoU .5
    joined = join_alike(
        kinship, foregrounds, np.full((2, 2), alike), replace(CONFIG, map_overlap=overlap)
    )
    assert joined.same[0, 1] == joined.same[1, 0] == (alike and overlap == 0.4)


def test_maps_never_join_a_part_with_its_whole_nor_anything_with_nothing():
    image = [
        referent("cup", ids=(1,)),
        referent("cups", ids=(1, 2)),
        referent("none", is_no_target=True),
    ]
    kinship = find_kinship(image, CONFIG)
    everywhere = np.ones((3, 4, 4), dtype=bool)
    joined = join_alike(kinship, everywhere, np.ones((3, 3), dtype=bool), CONFIG)
    np.testing.assert_array_equal(joined.same, np.eye(3, dtype=bool))


def test_overlaps_of_empty_masks_are_zero():
    masks = np.stack([square(slice(0, 0)), square(slice(0, 2)), square(slice(1, 3))])
    np.testing.assert_allclose(overlaps(masks), [[0, 0, 0], [0, 1, 1 / 3], [0, 1 / 3, 1]])


object_sets = st.sets(st.integers(1, 4), max_size=3)


@given(st.lists(object_sets, min_size=1, max_size=6))
def test_every_referent_is_labelled_once_and_common_classes_are_disjoint_objects(sets):
    image = [
        referent(f"sentence {n}", ids=tuple(sorted(each)), is_no_target=not each)
        for n, each in enumerate(sets)
    ]
    planned = contests(*image)
    labelled = [place for contest in planned for place in contest.labelled]
    assert sorted(labelled) == list(range(len(image)))
    for contest in planned:
        own = [set().union(*(sets[p] for p in members)) for members in contest.classes]
        for number, objects in enumerate(own):
            assert all(not objects & other for other in own[number + 1 :])


@pytest.mark.parametrize(
    "changes",
    [
        {"shared_sentences": 0.0},
        {"map_overlap": 0.0},
        {"judge_tolerance": -0.1},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        CompetitionConfig(**changes)
