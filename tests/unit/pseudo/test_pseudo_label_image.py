from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tris.data.referent import Referent
from tris.errors import InputError
from tris.pseudo.contest import CompetitionConfig, Contest, Rest, contests_for
from tris.pseudo.crf import refine_with_crf
from tris.pseudo.label import LabelConfig, judge_label, label_referent, normalise_map, resize_map
from tris.pseudo.label_image import Competition, label_image
from tris.pseudo.label_presets import EMBEDDED_LABELS
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.rivals import find_kinship, plan_contests

COMPETING = replace(EMBEDDED_LABELS, competition="image", degenerate="keep")
PLAIN = replace(COMPETING, refiner="threshold")
GREY = np.full((6, 8, 3), 100, np.uint8)
BOTH = (Contest(((0,), (1,)), 2),)


def random_image(seed, referents=3):
    generator = np.random.default_rng(seed)
    maps = (3 * generator.normal(size=(referents, 3, 4))).astype(np.float32)
    return maps, generator.integers(0, 255, (18, 24, 3), np.uint8)


def maps_of(*rows):
    """One map per list of column values, four rows high."""
    return np.array([[list(row)] * 4 for row in rows], np.float32)


@settings(deadline=None, max_examples=10)
@given(
    st.integers(0, 2**16),
    st.sampled_from(["crf", "threshold"]),
    st.sampled_from(["all", "highest"]),
)
def test_labels_of_one_image_never_overlap(seed, refiner, components):
    maps, image = random_image(seed)
    config = replace(COMPETING, refiner=refiner, components=components)
    labels = label_image(maps, image, (Contest(((0,), (1,), (2,)), 3),), config)
    assert sorted(labels) == [0, 1, 2]
    assert np.sum([labels[place].label == 1 for place in labels], axis=0).max() <= 1


def test_where_two_maps_agree_the_stronger_one_wins():
    labels = label_image(maps_of([4, 2, -4], [2, 4, -4]), GREY[:4, :3], BOTH, PLAIN)
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, [[0, 1, 0]] * 4)


@pytest.mark.parametrize(("logit", "wins"), [(-0.5, True), (0.5, False)])
def test_the_background_is_a_rival_with_a_score_of_its_own(logit, wins):
    config = replace(PLAIN, competing=replace(PLAIN.competing, background_logit=logit))
    labels = label_image(maps_of([0.0], [-9.0]), GREY[:4, :1], BOTH, config)
    assert bool(labels[0].label.all()) == wins
    assert not labels[1].label.any()


def test_a_referent_that_is_alone_goes_the_ordinary_way():
    maps, image = random_image(0, referents=1)
    (found,) = label_image(maps, image, (Contest(((0,),), 1),), COMPETING).values()
    np.testing.assert_array_equal(found.label, label_referent(maps[0], image, COMPETING).label)


@pytest.mark.parametrize("config", [LabelConfig(), EMBEDDED_LABELS])
def test_one_class_against_a_background_at_zero_is_the_ordinary_crf(config):
    maps, image = random_image(3, referents=1)
    crf = replace(config.crf, threshold=config.foreground_threshold)
    one = replace(config, competing=CompetitionConfig(crf=crf, background_logit=0.0))
    upsampled = Competition(maps, image, replace(one, refiner="threshold")).run()
    assert upsampled.shape == (2, 18, 24)
    found = Competition(maps, image, one).run()
    probability = normalise_map(resize_map(maps[0], (18, 24)), config.normalisation)
    np.testing.assert_allclose(found[1], refine_with_crf(probability, image, crf), atol=1e-5)


def test_referents_of_the_same_object_do_not_compete_and_keep_the_same_pixels():
    maps = maps_of([4, 0, -4], [2, 2, -4], [-4, -4, 4])
    labels = label_image(maps, GREY[:4, :3], (Contest(((0, 1), (2,)), 2),), PLAIN)
    np.testing.assert_array_equal(labels[0].label, [[1, 1, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, labels[0].label)
    np.testing.assert_array_equal(labels[2].label, [[0, 0, 1]] * 4)


def test_a_composite_keeps_its_parts_pixels_and_takes_none_of_a_strangers():
    one, both, stranger = [4, -4, -4], [3, 3, 1], [-4, -4, 4]
    contests = (Contest(((0,), (2,)), 2), Contest(((1,), (2,)), 1))
    labels = label_image(maps_of(one, both, stranger), GREY[:4, :3], contests, PLAIN)
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, [[1, 1, 0]] * 4)
    np.testing.assert_array_equal(labels[2].label, [[0, 0, 1]] * 4)


def test_a_composite_leaves_a_stranger_what_it_wins_without_the_composite():
    labels = label_image(
        maps_of([-4.0], [2.0], [1.0]), GREY[:4, :1],
        (Contest(((0,), (2,)), 2), Contest(((1,), (2,)), 1)), PLAIN,
    )  # fmt: skip
    assert labels[2].label.all()
    assert not labels[1].label.any()


def test_an_object_that_only_a_composite_speaks_of_is_defended_against_strangers():
    one, both, plate = [6, -6, -6], [6, 6, -6], [-6, 0.5, 6]
    _, contests = plan([{1}, {1, 2}, {3}])
    labels = label_image(maps_of(one, both, plate), GREY[:4, :3], contests, PLAIN)
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, [[1, 1, 0]] * 4)
    np.testing.assert_array_equal(labels[2].label, [[0, 0, 1]] * 4)


def test_the_rest_of_a_composite_takes_nothing_from_the_parts_that_have_sentences():
    one, both, plate = [2, -6, -6], [6, 6, -6], [-6, -6, 6]
    contests = (Contest(((0,), (2,)), 2, rests=(Rest((1,), ((0,),)),)),)
    labels = label_image(maps_of(one, both, plate), GREY[:4, :3], contests, PLAIN)
    assert sorted(labels) == [0, 2]
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 0]] * 4)


def test_a_part_that_gives_a_piece_back_gives_it_to_the_rest_of_its_composite():
    one, both, plate = [6, -6, 3, -6], [6, -6, 6, -6], [-6, -6, 1, 6]
    _, contests = plan([{1}, {1, 2}, {3}])
    config = replace(PLAIN, components="highest")
    labels = label_image(maps_of(one, both, plate), GREY[:4, :4], contests, config)
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 0, 0]] * 4)
    np.testing.assert_array_equal(labels[2].label, [[0, 0, 0, 1]] * 4)


@pytest.mark.parametrize("refiner", ["crf", "threshold"])
def test_composites_that_speak_of_the_same_object_defend_it_together(refiner):
    one, both, every = [6, -6, -6, -6], [6, 2, -6, -6], [6, 2, 6, -6]
    third, stranger = [-6, -6, 6, -6], [-6, 1, -6, 6]
    _, contests = plan([{1}, {1, 2}, {1, 2, 3}, {3}, {9}])
    maps = np.repeat(np.repeat(maps_of(one, both, every, third, stranger), 8, 1), 8, 2)
    photograph = np.kron(np.arange(4) * 60, np.ones((32, 8))).astype(np.uint8)
    config = replace(COMPETING, refiner=refiner)
    labels = label_image(maps, np.stack([photograph] * 3, axis=-1), contests, config)
    columns = np.stack([labels[place].label[:, 4::8].mean(axis=0) for place in range(5)])
    assert columns[4, 1] < 0.1
    assert columns[1, 1] > 0.9


def test_of_two_composites_that_are_apart_the_higher_map_takes_a_pixel():
    contests = (Contest(((0,),), 1, ((1,),)), Contest(((1,),), 1, ((0,),)))
    labels = label_image(maps_of([4, 2, 1, -4], [2, 4, 1, 1]), GREY[:4, :4], contests, PLAIN)
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 1, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, [[0, 1, 0, 1]] * 4)


def plan(sets):
    image = [
        Referent(
            referent_id=n, image_id=0, file_name="a.jpg", height=18, width=24,
            expression_ids=(n,), sentences=(f"sentence {n}",), raw_sentences=(f"sentence {n}",),
            annotation_ids=tuple(sorted(each)),
        )
        for n, each in enumerate(sets)
    ]  # fmt: skip
    kinship = find_kinship(image, CompetitionConfig())
    return kinship, plan_contests(kinship)


object_sets = st.lists(st.sets(st.integers(1, 5), min_size=1, max_size=3), min_size=2, max_size=6)


@settings(deadline=None, max_examples=60)
@given(
    object_sets,
    st.integers(0, 2**16),
    st.sampled_from(["all", "highest"]),
)
def test_labels_of_referents_that_share_nothing_never_overlap(sets, seed, components):
    maps, image = random_image(seed, referents=len(sets))
    config = replace(PLAIN, components=components)
    kinship, contests = plan(sets)
    labels = label_image(maps, image, contests, config)
    assert sorted(labels) == list(range(len(sets)))
    claimed = np.stack([labels[place].label == 1 for place in range(len(sets))])
    for one, other in zip(*np.nonzero(kinship.rivals), strict=True):
        assert not (claimed[one] & claimed[other]).any()


@settings(deadline=None, max_examples=20)
@given(object_sets, st.integers(0, 2**16), st.sampled_from(["all", "highest"]))
def test_the_contests_that_a_referent_takes_give_it_the_label_that_all_give_it(
    sets, seed, components
):
    maps, image = random_image(seed, referents=len(sets))
    _, contests = plan(sets)
    config = replace(PLAIN, components=components)
    whole = label_image(maps, image, contests, config)
    for place, wanted in whole.items():
        found = label_image(maps, image, contests_for(contests, [place]), config)[place]
        np.testing.assert_array_equal(found.label, wanted.label)
        assert found.degeneracy == wanted.degeneracy


@pytest.mark.parametrize("refiner", ["crf", "threshold"])
@pytest.mark.parametrize("degenerate", ["keep", "ignore", "drop"])
def test_without_composites_labels_are_those_of_the_common_crf_alone(refiner, degenerate):
    maps, image = random_image(5)
    config = replace(COMPETING, refiner=refiner, degenerate=degenerate)
    winner = Competition(maps, image, config).run().argmax(axis=0)
    _, contests = plan([{1}, {2}, {3}])
    for place, found in label_image(maps, image, contests, config).items():
        expected = judge_label((winner == place + 1).astype(np.uint8), config)
        np.testing.assert_array_equal(found.label, expected.label)
        assert found.degeneracy == expected.degeneracy


def test_only_referents_of_the_contests_that_are_asked_for_come_back():
    maps, image = random_image(1)
    contests = (Contest(((2,), (0,)), 1),)
    assert list(label_image(maps, image, contests, COMPETING)) == [2]


def test_in_one_piece_a_referent_gives_back_what_lies_on_its_neighbour():
    maps = maps_of([4, -4, 3, 3, -4], [-4, -4, 2, 2, -4])
    taken = label_image(maps, GREY[:4, :5], BOTH, PLAIN)
    assert not taken[1].label.any()
    labels = label_image(maps, GREY[:4, :5], BOTH, replace(PLAIN, components="highest"))
    np.testing.assert_array_equal(labels[0].label, [[1, 0, 0, 0, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, [[0, 0, 1, 1, 0]] * 4)


def test_what_nobody_else_claims_goes_to_the_background():
    maps = maps_of([3, -4, 4, -4, -4], [-4, -4, -4, -4, 2])
    labels = label_image(maps, GREY[:4, :5], BOTH, replace(PLAIN, components="highest"))
    np.testing.assert_array_equal(labels[0].label, [[0, 0, 1, 0, 0]] * 4)
    np.testing.assert_array_equal(labels[1].label, [[0, 0, 0, 0, 1]] * 4)


def columns(*values):
    """Maps of nine columns, each map high in one of its own and as given in the last."""
    return maps_of(*[
        [9 if column == 2 * place else -4 for column in range(8)] + [value]
        for place, value in enumerate(values)
    ])  # fmt: skip


@pytest.mark.parametrize("taken_by", [1, 2])
def test_a_piece_goes_on_to_whoever_claims_it_next_and_has_it_in_its_own_piece(taken_by):
    maps = columns(*[5.0, 4.0][:taken_by], -4.0)
    maps[-1] = maps_of([-4] * 8 + [3])[0]
    everyone = (Contest(tuple((place,) for place in range(len(maps))), len(maps)),)
    image = np.full((4, 9, 3), 100, np.uint8)
    labels = label_image(maps, image, everyone, replace(PLAIN, components="highest"))
    for place in range(taken_by):
        np.testing.assert_array_equal(labels[place].label, [np.eye(9)[2 * place]] * 4)
    np.testing.assert_array_equal(labels[taken_by].label, [np.eye(9)[8]] * 4)


def test_what_nobody_can_have_after_two_repeats_is_background():
    maps = columns(5.0, 4.5, 4.0, 3.5)
    everyone = (Contest(((0,), (1,), (2,), (3,)), 4),)
    image = np.full((4, 9, 3), 100, np.uint8)
    labels = label_image(maps, image, everyone, replace(PLAIN, components="highest"))
    for place in range(4):
        np.testing.assert_array_equal(labels[place].label, [np.eye(9)[2 * place]] * 4)


def test_referents_of_the_same_object_share_the_one_piece_that_their_mean_has():
    maps = maps_of([4, -4, 1, -9], [-2, -4, 3, -9], [-9, -9, -9, 4])
    contest = (Contest(((0, 1), (2,)), 2),)
    labels = label_image(maps, GREY[:4, :4], contest, replace(PLAIN, components="highest"))
    for place in (0, 1):
        np.testing.assert_array_equal(labels[place].label, [[0, 0, 1, 0]] * 4)


def test_what_is_barred_on_a_large_photograph_is_barred_where_the_crf_works():
    maps = np.stack([np.full((6, 8), 2.0), np.full((6, 8), -9.0)]).astype(np.float32)
    image = np.full((48, 64, 3), 100, np.uint8)
    barred = np.zeros((2, 48, 64), bool)
    barred[0, :, 32:] = True
    config = replace(COMPETING, working_size=16)
    weak = replace(config.competing.crf, bilateral_compat=0.0, gaussian_compat=0.0)
    config = replace(config, competing=replace(config.competing, crf=weak))
    competition = Competition(maps, image, config)
    assert competition.run()[1].min() > 0.8
    found = competition.run(barred)[1]
    assert found[:, :28].min() > 0.8
    assert found[:, 36:].max() < 0.01


@settings(deadline=None, max_examples=40)
@given(
    object_sets,
    st.integers(0, 2**16),
    st.sampled_from([None, 12]),
    st.sampled_from(["crf", "threshold"]),
)
def test_in_one_piece_every_label_has_one_component_at_most(sets, seed, working_size, refiner):
    maps, image = random_image(seed, referents=len(sets))
    config = replace(COMPETING, refiner=refiner, components="highest", working_size=working_size)
    _, contests = plan(sets)
    for found in label_image(maps, image, contests, config).values():
        assert ndimage.label(found.label == 1, np.ones((3, 3)))[1] <= 1


def test_a_referent_that_loses_every_pixel_is_empty_and_ignored():
    config = replace(PLAIN, degenerate="ignore")
    labels = label_image(maps_of([4, -4], [3, -4]), GREY[:4, :2], BOTH, config)
    assert labels[1].degeneracy == "empty"
    assert (labels[1].label == 255).all()


def test_the_common_crf_follows_the_photograph():
    image = np.full((20, 30, 3), 30, np.uint8)
    image[:, :8], image[:, 20:] = (220, 60, 60), (60, 60, 220)
    ramp = np.linspace(3, -3, 30, dtype=np.float32)[None].repeat(20, 0)
    labels = label_image(np.stack([ramp, ramp[:, ::-1]]), image, BOTH, COMPETING)
    np.testing.assert_array_equal(labels[0].label[10, :8], [1] * 8)
    np.testing.assert_array_equal(labels[1].label[10, 20:], [1] * 10)
    assert not labels[0].label[:, 20:].any()
    assert not labels[1].label[:, :8].any()


def test_a_large_photograph_is_worked_on_small_and_labelled_whole():
    maps, image = random_image(4)
    for components in ("all", "highest"):
        config = replace(COMPETING, working_size=12, components=components)
        labels = label_image(maps, image, (Contest(((0,), (1,), (2,)), 3),), config)
        assert labels[0].label.shape == (18, 24)


def test_a_map_that_is_not_finite_is_refused():
    maps, image = random_image(0)
    maps[1, 0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        label_image(maps, image, BOTH, COMPETING)


def test_the_confident_rule_is_refused_in_a_competition():
    with pytest.raises(InputError, match="take the rule binary"):
        LabelConfig(rule="confident", competition="image")


@pytest.mark.multiprocess
def test_workers_give_the_labels_of_whole_images_in_order():
    tasks = [
        ImageTask(("image", seed), *random_image(seed), (Contest(((0,), (1,), (2,)), 3),))
        for seed in range(6)
    ]
    with LabelPool(COMPETING, 0) as here, LabelPool(COMPETING, 1) as there:
        found, wanted = (list(pool.refine_images(tasks)) for pool in (there, here))
    assert [key for key, _ in found] == [task.key for task in tasks]
    for (_, left), (_, right) in zip(found, wanted, strict=True):
        for place in range(3):
            np.testing.assert_array_equal(left[place].label, right[place].label)
