import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from tris.errors import InputError
from tris.pseudo.crf import (
    PUBLISHED_CRF,
    CrfConfig,
    DenseCrf,
    refine_with_crf,
)

UNARY_ONLY = CrfConfig(gaussian_compat=0.0, bilateral_compat=0.0)


def two_coloured_image(height=24, width=30):
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, : width // 2] = (200, 60, 60)
    return image


def leaking_map(height=24, width=30):
    """Falls from the left edge to the right one and passes the colour edge too late."""
    return np.tile(np.linspace(1, 0, width), (height, 1)) ** 0.75


def test_a_map_that_leaks_is_drawn_back_to_the_colour_edge():
    image, probability = two_coloured_image(), leaking_map().clip(0, 1)
    truth = np.zeros(probability.shape, bool)
    truth[:, :15] = True
    plain = np.mean((probability > 0.42) == truth)
    refined = refine_with_crf(probability, image, CrfConfig()) > 0.5
    assert plain < 0.85
    assert np.mean(refined == truth) > 0.97


def test_the_refined_map_has_the_size_of_the_image_and_lies_between_0_and_1():
    refined = refine_with_crf(leaking_map(7, 5), two_coloured_image(7, 5), CrfConfig())
    assert refined.shape == (7, 5)
    assert refined.min() >= 0
    assert refined.max() <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_map_stays_what_it_is(value):
    refined = refine_with_crf(np.full((6, 6), value), two_coloured_image(6, 6), CrfConfig())
    np.testing.assert_array_equal(refined > 0.5, np.full((6, 6), value == 1))


def test_a_map_of_one_pixel_can_be_refined():
    refined = refine_with_crf(np.ones((1, 1)), np.zeros((1, 1, 3), np.uint8), CrfConfig())
    assert refined.item() > 0.5


def test_without_kernels_a_hard_unary_gives_its_certainty_back():
    config = replace(UNARY_ONLY, unary="hard", certainty=0.8, threshold=0.3)
    refined = refine_with_crf(np.array([[0.3, 0.31]]), np.zeros((1, 2, 3), np.uint8), config)
    np.testing.assert_allclose(refined, [[0.2, 0.8]], atol=1e-6)


def test_without_kernels_a_logit_unary_gives_probabilities_back():
    config = replace(UNARY_ONLY, unary="logit", steepness=1.0, threshold=0.5)
    probability = np.array([[0.1, 0.5, 0.9]])
    refined = refine_with_crf(probability, np.zeros((1, 3, 3), np.uint8), config)
    np.testing.assert_allclose(refined, probability, atol=1e-6)


def test_a_logit_unary_is_undecided_at_its_threshold():
    config = replace(UNARY_ONLY, unary="logit", steepness=3.0, threshold=0.2)
    refined = refine_with_crf(np.array([[0.2, 0.3]]), np.zeros((1, 2, 3), np.uint8), config)
    assert refined[0, 0] == pytest.approx(0.5, abs=1e-6)
    odds = (0.3 / 0.7) / (0.2 / 0.8)
    assert refined[0, 1] == pytest.approx(odds**3 / (1 + odds**3), abs=1e-6)


def test_a_relative_unary_does_not_care_about_the_scale_of_the_map():
    probability, image = leaking_map(), two_coloured_image()
    full = refine_with_crf(probability, image, CrfConfig())
    tenth = refine_with_crf(0.1 * probability, image, CrfConfig())
    np.testing.assert_allclose(full, tenth, atol=1e-2)


def test_a_relative_unary_without_kernels_is_a_sigmoid_around_its_threshold():
    config = replace(UNARY_ONLY, steepness=4.0, threshold=0.25)
    refined = refine_with_crf(np.array([[1.0, 0.25]]), np.zeros((1, 2, 3), np.uint8), config)
    np.testing.assert_allclose(refined, [[1 / (1 + np.exp(-3)), 0.5]], atol=1e-4)


def test_any_memory_layout_gives_the_same_result_and_nothing_is_written_to():
    image, probability = two_coloured_image(), leaking_map()
    expected = refine_with_crf(probability, image, CrfConfig())
    kept = image.copy()
    image.flags.writeable = False
    np.testing.assert_array_equal(refine_with_crf(probability, image, CrfConfig()), expected)
    strange = np.asfortranarray(image)
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    for other in (strange, mirrored):
        result = refine_with_crf(np.asfortranarray(probability), other, CrfConfig())
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(image, kept)


def test_three_classes_share_every_pixel():
    energy = np.zeros((3, 5, 4))
    energy[2, :, 2:] = -2.0
    probability = DenseCrf(two_coloured_image(5, 4), CrfConfig(), num_classes=3).infer(energy)
    np.testing.assert_allclose(probability.sum(0), 1, atol=1e-5)
    assert (probability[:, :, 2:].argmax(0) == 2).all()


@pytest.mark.parametrize("config", [CrfConfig(), PUBLISHED_CRF])
def test_maps_of_one_photograph_share_kernels_and_not_results(config):
    image, maps = two_coloured_image(), [leaking_map(), leaking_map()[:, ::-1], leaking_map() ** 3]
    shared = DenseCrf(image, config, num_classes=2)
    for threshold in (0.42, 0.2):
        rule = replace(config, threshold=threshold)
        for each in maps:
            np.testing.assert_array_equal(
                shared.refine(each, threshold=threshold), refine_with_crf(each, image, rule)
            )


def test_published_parameters_are_those_of_irnet():
    published = (PUBLISHED_CRF.unary, PUBLISHED_CRF.certainty, PUBLISHED_CRF.num_iterations)
    assert published == ("hard", 0.7, 10)
    assert (PUBLISHED_CRF.gaussian_sxy, PUBLISHED_CRF.gaussian_compat) == (3, 3)
    assert (PUBLISHED_CRF.bilateral_sxy, PUBLISHED_CRF.bilateral_srgb) == (50, 5)
    assert PUBLISHED_CRF.bilateral_compat == 10


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_map_outside_0_to_1_is_refused(value):
    with pytest.raises(InputError, match=r"needs a map in \[0, 1\]"):
        refine_with_crf(np.full((3, 3), value), np.zeros((3, 3, 3), np.uint8), CrfConfig())


def test_an_image_of_another_size_is_refused():
    with pytest.raises(InputError, match="3 x 3 pixels and an image of 3 x 4"):
        DenseCrf(np.zeros((3, 4, 3), np.uint8), CrfConfig(), num_classes=2).infer(
            np.zeros((2, 3, 3))
        )


def test_without_pydensecrf_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pydensecrf2"):
        refine_with_crf(np.zeros((3, 3)), np.zeros((3, 3, 3), np.uint8), CrfConfig())


@pytest.mark.parametrize(
    "changes",
    [
        {"certainty": 0.5},
        {"certainty": 1.0},
        {"threshold": 0.0},
        {"steepness": 0.0},
        {"bilateral_srgb": -1.0},
        {"bilateral_compat": -1.0},
        {"num_iterations": -1},
        {"gaussian_sxy": float("nan")},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        CrfConfig(**changes)
