from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tris.data.masks import encode_mask
from tris.errors import InputError
from tris.metrics.boxes import (
    FALLBACK_BOX,
    best_overlap,
    generate_boxes,
    generate_boxes_of_response,
)
from tris.metrics.counts import count_row
from tris.metrics.point import find_peak, is_in_a_box
from tris.metrics.protocols import PROTOCOLS, STANDARD
from tris.metrics.rle import contains_pixel, enclosing_box
from tris.metrics.summary import compute_metrics

BLOCK = np.zeros((20, 30), dtype=bool)
BLOCK[5:15, 10:20] = True


def score(prediction, target, *, protocol=STANDARD, **kwargs):
    row = count_row(prediction, target, expression_id=1, referent_id=1, **kwargs)
    return compute_metrics(row[None], protocol=protocol)


def test_the_first_of_equal_peaks_in_reading_order_wins():
    assert find_peak(np.array([[0.0, 1.0], [3.0, 3.0]])) == (0, 1)


@given(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2**24 - 1))
@settings(max_examples=60, deadline=None)
def test_a_pixel_is_found_in_a_run_length_mask_as_in_a_dense_one(x, y, bits):
    mask = np.array([bits >> place & 1 for place in range(24)], dtype=bool).reshape(4, 6)
    assert contains_pixel(encode_mask(mask), x, y) == mask[y, x]


@pytest.mark.parametrize(
    ("point", "is_inside"), [((10, 5), 1), ((20, 15), 1), ((21, 15), 0), ((9, 5), 0), ((15, 4), 0)]
)
def test_the_bounds_of_a_box_belong_to_it(point, is_inside):
    assert is_in_a_box(*point, [(10.9, 5.2, 10.0, 10.0)]) == is_inside


def test_a_peak_in_any_box_counts():
    assert is_in_a_box(1, 1, [(10, 10, 2, 2), (0, 0, 3, 3)])
    assert not is_in_a_box(1, 1, [])


def test_point_metrics_look_at_the_mask_and_at_the_box():
    target = BLOCK.copy()
    target[5, 10] = False
    metrics = score(BLOCK, target, point=(10, 5))
    assert (metrics["peak_in_mask_accuracy"], metrics["peak_in_box_accuracy"]) == (0, 1)


def test_an_expression_without_a_point_among_others_is_a_miss():
    rows = np.stack(
        [
            count_row(BLOCK, BLOCK, expression_id=number, referent_id=1, point=point)
            for number, point in enumerate([(12, 7), None])
        ]
    )
    assert compute_metrics(rows)["peak_in_mask_accuracy"] == 0.5


def test_a_point_outside_the_image_is_refused():
    with pytest.raises(InputError, match=r"30 x 20 pixels \(width x height\)"):
        score(BLOCK, BLOCK, point=(30, 5))


def test_the_enclosing_box_ends_after_the_last_pixel():
    assert enclosing_box(encode_mask(BLOCK)) == (10, 5, 20, 15)
    assert enclosing_box(encode_mask(BLOCK & False)) is None


@given(st.tuples(*[st.integers(0, 9)] * 4), st.tuples(*[st.integers(0, 9)] * 4))
@settings(max_examples=60, deadline=None)
def test_overlap_equals_counting_pixels(first, second):
    one, other = np.zeros((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)
    boxes = []
    for raster, (x, y, width, height) in ((one, first), (other, second)):
        raster[y : y + height, x : x + width] = True
        boxes.append((x, y, x + width, y + height))
    found = best_overlap(boxes[:1], boxes[1:])
    assert (found.intersection, found.union) == ((one & other).sum(), (one | other).sum())


def test_a_box_that_meets_the_truth_by_exactly_half_passes_unless_strict():
    half = BLOCK.copy()
    half[:, 15:] = False
    assert score(half, BLOCK)["box_accuracy"] == 1
    assert score(half, BLOCK)["box_mean_iou"] == 0.5
    assert score(half, BLOCK, protocol=replace(STANDARD, box_is_strict=True))["box_accuracy"] == 0


def test_an_empty_prediction_has_a_box_iou_of_zero():
    metrics = score(None, BLOCK)
    assert (metrics["box_accuracy"], metrics["box_mean_iou"]) == (0, 0)


@pytest.mark.parametrize("value", [0, 1])
def test_released_boxes_fall_back_where_the_mask_is_constant(value):
    assert generate_boxes(encode_mask(np.full((5, 6), value, dtype=bool))) == [FALLBACK_BOX]
    assert generate_boxes_of_response(np.full((5, 6), 0.5)) == [(FALLBACK_BOX, 0.0)]


def test_released_boxes_are_drawn_around_each_part_and_around_holes():
    mask = np.zeros((60, 80), dtype=bool)
    mask[2:8, 2:8] = True
    mask[30:50, 40:70] = True
    mask[38:42, 50:60] = False
    assert set(generate_boxes(encode_mask(mask))) >= {(40, 30, 70, 50), (2, 2, 8, 8)}


def test_released_box_accuracy_takes_any_drawn_box_and_the_iou_takes_that_of_the_peak():
    prediction = np.zeros((60, 80), dtype=bool)
    prediction[40:60, 0:20] = True
    prediction[5:15, 40:60] = True
    target = np.zeros_like(prediction)
    target[40:60, 0:20] = True
    tris = PROTOCOLS["tris"]
    on_it = score(prediction, target, protocol=tris, point=(5, 50))
    beside = score(prediction, target, protocol=tris, point=(50, 10))
    assert (on_it["box_accuracy"], on_it["box_mean_iou"]) == (1, 1)
    assert (beside["box_accuracy"], beside["box_mean_iou"]) == (1, 0)


def test_true_boxes_are_cut_to_whole_pixels_for_released_boxes():
    box = (10.9, 5.9, 9.2, 9.2)
    metrics = score(BLOCK, BLOCK, protocol=PROTOCOLS["tris"], boxes=[box])
    assert metrics["box_mean_iou"] == 1


def test_no_target_expressions_have_no_box_and_no_point():
    metrics = score(BLOCK, None, is_no_target=True, point=(1, 1))
    assert not {"box_accuracy", "peak_in_box_accuracy"} & set(metrics)


def test_a_dropped_mask_loses_its_box():
    protocol = replace(STANDARD, minimum_area=101)
    assert score(BLOCK, BLOCK, protocol=protocol)["box_mean_iou"] == 0
