import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tris.data.masks import encode_mask
from tris.errors import InputError
from tris.metrics.counts import count_row
from tris.metrics.rows import NUM_COLUMNS, Counts, merge_rows

EMPTY = np.zeros((4, 4), dtype=bool)
FULL = np.ones((4, 4), dtype=bool)
SQUARE = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
COLUMN = np.array([[0, 1, 0, 0]] * 4, dtype=bool)
PIXEL = np.zeros((4, 4), dtype=bool)
PIXEL[3, 0] = True


def count(prediction, target, **kwargs):
    row = count_row(prediction, target, **({"expression_id": 7, "referent_id": 3} | kwargs))
    return Counts(*row.tolist())


@pytest.mark.parametrize("mask", [SQUARE, FULL, PIXEL])
def test_a_mask_against_itself_has_an_intersection_equal_to_its_union(mask):
    counts = count(mask, mask)
    assert counts.intersection == counts.union == counts.target_area == mask.sum()


def test_overlapping_masks_are_counted_pixel_by_pixel():
    counts = count(SQUARE, COLUMN)
    assert (counts.intersection, counts.union) == (2, 6)
    assert (counts.prediction_area, counts.target_area, counts.image_area) == (4, 4, 16)


def test_ids_are_kept_and_the_sequence_defaults_to_the_expression():
    counts = count(SQUARE, COLUMN)
    assert (counts.expression_id, counts.referent_id, counts.sequence_id) == (7, 3, 7)


def test_no_prediction_is_an_empty_mask_that_says_no_target():
    counts = count(None, SQUARE)
    assert (counts.prediction_area, counts.union, counts.predicted_no_target) == (0, 4, 1)


def test_a_flag_beside_a_mask_keeps_the_mask():
    counts = count(SQUARE, SQUARE, predicted_no_target=True)
    assert (counts.prediction_area, counts.predicted_no_target) == (4, 1)


def test_the_mask_of_a_no_target_expression_is_never_looked_at():
    counts = count(SQUARE, SQUARE, is_no_target=True)
    assert (counts.intersection, counts.target_area, counts.union) == (0, 0, 4)


def test_two_absent_masks_need_a_size():
    assert count(None, None, size=(4, 4)).image_area == 16
    with pytest.raises(InputError, match="size="):
        count(None, None)


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="4 x 4 and 4 x 5"):
        count(np.ones((4, 5), dtype=bool), SQUARE)


def test_broken_runs_are_refused():
    with pytest.raises(InputError, match="16 pixels"):
        count({"size": [4, 4], "counts": [3, 2]}, SQUARE)


def test_contours_are_counted_on_request_only():
    assert count(SQUARE, SQUARE).has_contour == 0
    counts = count(SQUARE, SQUARE, with_contours=True)
    assert counts.has_contour == 1
    assert counts.prediction_contour == counts.target_contour == counts.target_contour_matched > 0


masks = arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6)))


@given(masks.flatmap(lambda mask: st.tuples(st.just(mask), arrays(np.bool_, mask.shape))))
@settings(max_examples=60, deadline=None)
def test_counts_equal_numpy_on_dense_and_on_run_length_masks(pair):
    prediction, target = pair
    from_dense = count(prediction, target, with_generated_boxes=False)
    from_runs = count(encode_mask(prediction), encode_mask(target), with_generated_boxes=False)
    assert from_dense == from_runs
    assert from_dense.intersection == (prediction & target).sum()
    assert from_dense.union == (prediction | target).sum()
    assert from_dense.prediction_area == prediction.sum()


@given(masks.flatmap(lambda mask: st.tuples(st.just(mask), arrays(np.bool_, mask.shape))))
@settings(max_examples=30, deadline=None)
def test_intersection_and_union_do_not_know_which_mask_came_first(pair):
    one, other = (count(*pair), count(*pair[::-1]))
    assert (one.intersection, one.union) == (other.intersection, other.union)


def test_merging_keeps_every_expression_once_in_order():
    rows = [
        count_row(SQUARE, SQUARE, expression_id=number, referent_id=0) for number in (5, 2, 5, 9)
    ]
    merged = merge_rows([np.stack(rows[:2]), np.stack(rows[2:])])
    assert merged[:, 0].tolist() == [2, 5, 9]


def test_one_sentence_id_of_two_referents_stays_two_rows():
    rows = [count_row(SQUARE, SQUARE, expression_id=1, referent_id=number) for number in (4, 3)]
    assert merge_rows([np.stack(rows)])[:, 1].tolist() == [3, 4]


def test_merging_nothing_gives_no_rows():
    assert merge_rows([]).shape == (0, NUM_COLUMNS)
