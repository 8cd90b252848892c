from dataclasses import asdict, replace

import numpy as np
import pytest

from configs import synthetic
from tris.batch import IGNORE_INDEX
from tris.errors import InputError
from tris.pseudo.label import (
    IGNORE,
    LabelConfig,
    find_degeneracy,
    label_referent,
    make_label,
    normalise_map,
)
from tris.pseudo.label_presets import (
    EMBEDDED_LABELS,
    EMBEDDED_MERGED_LABELS,
    EMBEDDED_SEGMENTER_LABELS,
)

PLAIN = LabelConfig(refiner="threshold")
GREY = np.full((4, 4, 3), 100, np.uint8)


def logits(*rows):
    return np.array(rows, np.float32)


def test_the_ignored_value_is_that_of_the_losses():
    assert IGNORE == IGNORE_INDEX


@pytest.mark.parametrize("label", [EMBEDDED_MERGED_LABELS, EMBEDDED_SEGMENTER_LABELS])
def test_a_map_alone_and_those_that_compete_meet_the_same_new_kernels(label):
    assert (label.competition, label.components) == ("image", "highest")
    changed = {
        name: value
        for name, value in asdict(label.crf).items()
        if value != getattr(EMBEDDED_LABELS.crf, name)
    }
    assert changed["bilateral_sxy"] == 11.0
    assert changed.items() <= asdict(label.competing.crf).items()


def test_the_default_takes_them_where_they_were_chosen():
    config = synthetic.get_config()
    assert config.labels.label == EMBEDDED_MERGED_LABELS
    assert config.self_training.label == EMBEDDED_SEGMENTER_LABELS


def test_max_normalisation_rectifies_and_divides_by_the_maximum():
    normalised = normalise_map(logits([-1, 2], [4, 0]), "max")
    np.testing.assert_allclose(normalised, [[0, 0.5], [1, 0]], atol=1e-5)


def test_a_map_without_a_positive_response_normalises_to_zero():
    np.testing.assert_array_equal(normalise_map(logits([-1, -2]), "max"), [[0, 0]])


def test_sigmoid_normalisation_is_undecided_at_0_and_survives_extreme_logits():
    normalised = normalise_map(logits([0, np.log(3), -1000, 1000]), "sigmoid")
    np.testing.assert_allclose(normalised, [[0.5, 0.75, 0, 1]], atol=1e-6)


def test_plain_thresholding_keeps_what_is_above_the_threshold():
    config = replace(PLAIN, foreground_threshold=0.5)
    response = logits([4, 2.1, 1.9, -3]).repeat(4, 0)
    np.testing.assert_array_equal(make_label(response, GREY, config), [[1, 1, 0, 0]] * 4)


def test_the_confident_rule_ignores_what_lies_between_the_thresholds():
    config = replace(PLAIN, rule="confident", foreground_threshold=0.5, background_threshold=0.25)
    response = logits([4, 1.9, 1.1, 0.9]).repeat(4, 0)
    np.testing.assert_array_equal(make_label(response, GREY, config), [[1, 255, 255, 0]] * 4)


def test_of_several_components_the_one_that_is_highest_stays():
    response = logits([4, 0, 3, 3], [2, 0, 3, 3], [0, 0, 0, 0], [0, 0, 0, 0])
    everything = make_label(response, GREY, PLAIN)
    assert everything.sum() == 6  # neither the larger nor the one of the greater mean is highest
    kept = make_label(response, GREY, replace(PLAIN, components="highest"))
    np.testing.assert_array_equal(np.argwhere(kept), [[0, 0], [1, 0]])


def test_of_equally_high_components_the_larger_stays_and_corners_connect():
    response = logits([4, 0, 0, 4], [0, 0, 4, 0], [0, 0, 0, 0], [4, 0, 0, 0])
    kept = make_label(response, GREY, replace(PLAIN, components="highest"))
    np.testing.assert_array_equal(np.argwhere(kept), [[0, 3], [1, 2]])


def test_of_nothing_nothing_stays():
    empty = make_label(logits(*[[-1] * 4] * 4), GREY, replace(PLAIN, components="highest"))
    assert not empty.any()


def test_the_confident_rule_does_not_call_a_lower_component_background():
    config = replace(PLAIN, rule="confident", components="highest")
    label = make_label(logits([4, 0, 2, 0], *[[0] * 4] * 3), GREY, config)
    np.testing.assert_array_equal(label[0], [1, 0, 255, 0])


def test_a_small_map_is_stretched_over_the_photograph():
    response = logits([4, -4])
    config = replace(EMBEDDED_LABELS, refiner="threshold")
    label = make_label(response, np.zeros((6, 8, 3), np.uint8), config)
    np.testing.assert_array_equal(label, [[1] * 4 + [0] * 4] * 6)


@pytest.mark.parametrize("refiner", ["crf", "threshold"])
@pytest.mark.parametrize("size", [(5, 9), (64, 40), (1, 1)])
def test_the_label_has_the_size_of_the_photograph(refiner, size):
    config = LabelConfig(refiner=refiner, working_size=16)
    label = make_label(np.ones((3, 3), np.float32), np.zeros((*size, 3), np.uint8), config)
    assert label.shape == size
    assert label.dtype == np.uint8


def test_working_small_gives_nearly_the_label_of_the_full_size():
    image = np.full((120, 160, 3), 30, np.uint8)
    image[30:90, 40:100] = (220, 180, 30)
    response = np.full((12, 16), -2.0, np.float32)
    response[3:9, 4:10] = 2.0
    full = make_label(response, image, replace(EMBEDDED_LABELS, working_size=None))
    small = make_label(response, image, replace(EMBEDDED_LABELS, working_size=80))
    truth = image[..., 0] == 220
    assert np.mean((full == 1) == truth) > 0.995
    assert np.mean((small == 1) == truth) > 0.98


def test_the_crf_refiner_follows_the_photograph():
    image = np.full((20, 20, 3), 30, np.uint8)
    image[:, :8] = (220, 60, 60)
    response = np.linspace(3, -1.5, 20, dtype=np.float32)[None].repeat(20, 0)
    label = make_label(response, image, EMBEDDED_LABELS)
    plain = make_label(response, image, replace(EMBEDDED_LABELS, refiner="threshold"))
    assert (plain[10] == 1).sum() > 12
    np.testing.assert_array_equal(label[10], [1] * 8 + [0] * 12)


def test_the_confident_rule_with_a_crf_marks_all_three_kinds():
    image = np.full((20, 30, 3), 30, np.uint8)
    image[:, 10:20] = (120, 120, 120)
    image[:, 20:] = (240, 240, 240)
    config = LabelConfig(rule="confident", foreground_threshold=0.6, background_threshold=0.2)
    response = logits([4, 4, 1.6, 1.6, 0.1, 0.1]).repeat(4, 0)
    label = make_label(response, image, config)
    np.testing.assert_array_equal(label[10, [2, 15, 27]], [1, 255, 0])


def test_a_map_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="not finite"):
        make_label(logits([np.nan]), GREY, PLAIN)


def square(value):
    return np.full((4, 4), value, np.float32)


@pytest.mark.parametrize(("value", "kind"), [(-1, "empty"), (1, "whole")])
@pytest.mark.parametrize("rule", ["keep", "ignore", "drop"])
def test_degenerate_labels_are_named_and_handled_as_the_config_says(value, kind, rule):
    config = replace(EMBEDDED_LABELS, refiner="threshold", degenerate=rule)
    result = label_referent(square(value), GREY, config)
    assert result.degeneracy == kind
    if rule == "drop":
        assert result.label is None
    else:
        expected = IGNORE if rule == "ignore" else int(kind == "whole")
        np.testing.assert_array_equal(result.label, np.full((4, 4), expected))


@pytest.mark.parametrize("rule", ["keep", "ignore", "drop"])
def test_sound_labels_are_left_alone(rule):
    config = replace(EMBEDDED_LABELS, refiner="threshold", degenerate=rule)
    response = square(-1)
    response[1, 1] = 1
    result = label_referent(response, GREY, config)
    assert result.degeneracy == "sound"
    assert result.label.sum() == 1


def test_how_small_is_empty_and_how_large_is_whole_are_fields():
    label = np.zeros((4, 4), np.uint8)
    label[0, 0] = 1
    assert find_degeneracy(label, PLAIN) == "sound"
    assert find_degeneracy(label, replace(PLAIN, smallest_area=1 / 16)) == "empty"
    assert find_degeneracy(1 - label, PLAIN) == "sound"
    assert find_degeneracy(1 - label, replace(PLAIN, largest_area=15 / 16)) == "whole"


def test_a_label_of_ignored_pixels_only_is_empty():
    assert find_degeneracy(np.full((2, 2), IGNORE, np.uint8), PLAIN) == "empty"


@pytest.mark.parametrize(
    "changes",
    [
        {"foreground_threshold": 0.0},
        {"background_threshold": 1.0},
        {"rule": "confident", "foreground_threshold": 0.05},
        {"working_size": 0},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes):
    with pytest.raises(InputError):
        LabelConfig(**changes)
