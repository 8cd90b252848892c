import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco

from tris.data.masks import (
    check_rle,
    decode_mask,
    empty_rle,
    encode_mask,
    mask_to_box,
    merge_masks,
    polygons_to_rle,
    resize_mask,
    rle_area,
    rle_size,
    rle_to_box,
)
from tris.errors import InputError

FOUR_BY_SIX = {"size": [4, 6], "counts": "9220003"}
"""Rows 1 and 2, columns 2 to 4: worked out by hand from COCO's description."""


def by_hand() -> np.ndarray:
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 1
    return mask


def test_a_hand_made_mask_has_the_text_that_cocos_description_gives():
    assert encode_mask(by_hand()) == FOUR_BY_SIX


@pytest.mark.parametrize(
    ("counts", "text", "size"),
    [
        ([9, 2, 2, 2, 2, 2, 5], "9220003", [4, 6]),
        ([0, 1, 23], "01g0", [4, 6]),
        ([70, 40, 5, 100, 33, 2], "V2X15l1l0nL", [10, 25]),
    ],
)
def test_run_lengths_become_their_text(counts: list[int], text: str, size: list[int]):
    assert check_rle({"size": size, "counts": counts}) == {"size": size, "counts": text}


def test_bytes_become_text():
    assert check_rle({"size": (4, 6), "counts": b"9220003"}) == FOUR_BY_SIX


@pytest.mark.parametrize("fill", [0, 1])
def test_empty_and_full_masks_round_trip(fill: int):
    mask = np.full((4, 4), fill, np.uint8)
    assert (decode_mask(encode_mask(mask)) == mask).all()


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))
)
def test_any_mask_round_trips_and_its_text_equals_pycocotools(mask: np.ndarray):
    rle = encode_mask(mask)
    assert (decode_mask(rle) == mask).all()
    assert check_rle(rle) == rle
    assert coco.encode(np.asfortranarray(mask))["counts"].decode() == rle["counts"]
    assert rle_area(rle) == int(mask.sum())
    assert rle_to_box(rle) == mask_to_box(mask)


@pytest.mark.parametrize(
    "rle",
    [
        None,
        "9220003",
        {"size": [4, 6]},
        {"size": [4], "counts": "9220003"},
        {"size": [4, 0], "counts": ""},
        {"size": [4, -6], "counts": "9220003"},
        {"size": [4.0, 6.0], "counts": "9220003"},
        {"size": [10**6, 10**6], "counts": "9220003"},
        {"size": [4, 7], "counts": "9220003"},
        {"size": [4, 6], "counts": "922000"},
        {"size": [4, 6], "counts": "92200o"},
        {"size": [4, 6], "counts": "9220003é"},
        {"size": [4, 6], "counts": "9 220003"},
        {"size": [4, 6], "counts": "oooooooooooooooo0"},
        {"size": [4, 6], "counts": ""},
        {"size": [4, 6], "counts": [9, -2, 17]},
        {"size": [4, 6], "counts": [9, 2.5, 12.5]},
        {"size": [4, 6], "counts": [9, 2]},
        {"size": [4, 6], "counts": 24},
    ],
)
def test_a_malformed_rle_is_refused(rle: object):
    with pytest.raises(InputError):
        check_rle(rle)


def test_a_negative_run_is_refused_although_the_sum_fits():
    with pytest.raises(InputError, match="must fill"):
        check_rle({"size": [4, 6], "counts": "j0N"})  # 26, -2


def test_a_union_covers_both_masks():
    first, second = np.zeros((2, 4, 4), np.uint8)
    first[0, :2], second[0, 1:] = 1, 1
    union = merge_masks([encode_mask(first), encode_mask(second)])
    assert (decode_mask(union) == (first | second)).all()


def test_a_union_of_different_sizes_is_refused():
    with pytest.raises(InputError, match="one size"):
        merge_masks([empty_rle(4, 4), empty_rle(4, 5)])


def test_a_union_of_nothing_is_refused():
    with pytest.raises(InputError, match="one size"):
        merge_masks([])


def test_polygons_are_drawn_as_coco_draws_them():
    square = [2.0, 1.0, 5.0, 1.0, 5.0, 3.0, 2.0, 3.0]
    assert polygons_to_rle([square], 4, 6) == FOUR_BY_SIX


SQUARES = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]]


def test_overlapping_polygons_are_their_union():
    mask = decode_mask(polygons_to_rle(SQUARES, 6, 6))
    assert mask[3, 3] == 1
    assert mask.sum() == 16 + 16 - 4


def test_the_quirk_of_refer_makes_overlaps_holes():
    mask = decode_mask(polygons_to_rle(SQUARES, 6, 6, overlapping="refer-quirk"))
    assert mask[3, 3] == 0
    assert mask.sum() == 16 + 16 - 8


def test_a_polygon_is_clipped_at_the_border():
    mask = decode_mask(polygons_to_rle([[-5, -5, 2, -5, 2, 2, -5, 2]], 4, 4))
    assert mask[:2, :2].all()
    assert mask.sum() == 4


def test_a_polygon_outside_the_image_is_empty():
    assert rle_area(polygons_to_rle([[10, 10, 20, 10, 20, 20]], 4, 4)) == 0


@pytest.mark.parametrize(
    "polygons",
    [
        [],
        [[0, 0, 4, 4]],
        [[0, 0, 4, 0, 4, 4, 0]],
        [[0, 0, 4, 0, 4, float("nan")]],
        [[0, 0, 4, 0, 4, float("inf")]],
        [["0", 0, 4, 0, 4, 4]],
        [[[0, 0], [4, 0], [4, 4]]],
        [None],
    ],
)
def test_a_malformed_polygon_is_refused(polygons: list):
    with pytest.raises(InputError):
        polygons_to_rle(polygons, 4, 4)


@pytest.mark.parametrize("size", [(2, 3), (4, 6), (9, 5), (1, 1)])
def test_resizing_follows_pillows_nearest_rule(size: tuple[int, int]):
    mask = np.random.default_rng(0).integers(0, 2, (4, 6), dtype=np.uint8)
    wanted = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    assert (resize_mask(mask, size) == np.asarray(wanted)).all()


def test_the_box_of_one_pixel_is_one_pixel_large():
    mask = np.zeros((4, 4), np.uint8)
    mask[2, 3] = 1
    assert mask_to_box(mask) == (3.0, 2.0, 1.0, 1.0)


def test_an_empty_mask_has_no_box():
    assert mask_to_box(np.zeros((4, 4), bool)) is None
    assert rle_to_box(empty_rle(4, 4)) is None


def test_the_size_of_an_rle_is_height_and_width():
    assert rle_size(FOUR_BY_SIX) == (4, 6)


@pytest.mark.parametrize(
    "counts", ["o" * 1000, "", b"o", "P"], ids=["long", "none", "bytes", "one"]
)
def test_counts_that_never_end_a_run_are_refused(counts: str | bytes):
    with pytest.raises(InputError, match=r"no COCO text|must fill"):
        check_rle({"size": [4, 6], "counts": counts})
