import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import dilation, disk

from tris.metrics.counts import count_row
from tris.metrics.protocols import PROTOCOLS
from tris.metrics.summary import compute_metrics
from tris.metrics.video import count_contours, find_contour

SHAPE = (40, 300)
"""Its diagonal asks for a disk of three pixels."""


def reference_contour(mask):
    height, width = mask.shape
    contour = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            down, right = min(y + 1, height - 1), min(x + 1, width - 1)
            near = {mask[y, right], mask[down, x], mask[down, right]}
            contour[y, x] = near != {mask[y, x]}
    return contour


def reference_f(prediction, target):
    grow = disk(math.ceil(0.008 * math.hypot(*target.shape)))
    ours, theirs = reference_contour(prediction), reference_contour(target)
    if not ours.any() and not theirs.any():
        return 1.0
    if not ours.any() or not theirs.any():
        return 0.0
    precision = (ours & dilation(theirs, grow)).sum() / ours.sum()
    recall = (theirs & dilation(ours, grow)).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def block(left, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[10:30, left : left + 50] = True
    return mask


def score(*frames, sequences=None):
    rows = [
        count_row(
            prediction,
            target,
            expression_id=number,
            referent_id=number,
            sequence_id=sequences[number] if sequences else 0,
            is_no_target=not target.any(),
            with_contours=True,
        )
        for number, (prediction, target) in enumerate(frames)
    ]
    return compute_metrics(np.stack(rows), protocol=PROTOCOLS["mevis"])


@given(arrays(np.bool_, (5, 6)))
@settings(max_examples=40, deadline=None)
def test_the_contour_is_where_a_pixel_differs_from_right_below_or_diagonal(mask):
    np.testing.assert_array_equal(find_contour(mask), reference_contour(mask))


@pytest.mark.parametrize("shift", [0, 1, 3, 4, 20])
def test_contour_accuracy_equals_its_definition(shift):
    prediction, target = block(100 + shift), block(100)
    wanted = reference_f(prediction, target)
    assert score((prediction, target))["contour_accuracy"] == pytest.approx(wanted)


@given(st.integers(0, 2**16), st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_contour_accuracy_of_noise_equals_its_definition(one, other):
    prediction = np.random.default_rng(one).random((30, 40)) < 0.02
    target = np.random.default_rng(other).random((30, 40)) < 0.02
    wanted = reference_f(prediction, target)
    assert score((prediction, target))["contour_accuracy"] == pytest.approx(wanted)


def test_contours_within_the_tolerance_match():
    found = count_contours(block(103), block(100))
    assert found.prediction_matched == found.prediction
    assert count_contours(block(150), block(100)).prediction_matched < found.prediction


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [(False, False, 1), (True, False, 0), (False, True, 0), (True, True, 1)],
)
def test_empty_frames_score_one_when_both_are_empty(prediction, target, expected):
    metrics = score((block(100) & prediction, block(100) & target))
    assert metrics["j_and_f"] == expected


def test_frames_are_averaged_within_their_sequence_first():
    right, wrong = (block(10), block(10)), (block(200), block(10))
    metrics = score(right, right, right, wrong, sequences=[1, 1, 1, 2])
    assert metrics["region_similarity"] == 0.5
    assert metrics["j_and_f"] == pytest.approx(
        (metrics["region_similarity"] + metrics["contour_accuracy"]) / 2
    )
