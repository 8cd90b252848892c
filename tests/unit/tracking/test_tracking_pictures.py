import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tris.errors import InputError
from tris.tracking.overlays import (
    draw_overlay,
    draw_refusal,
    draw_response,
    mark_peak,
    peak_of,
)
from tris.tracking.panels import load_gallery, save_gallery, update_gallery

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def square():
    mask = np.zeros((48, 64), bool)
    mask[12:36, 12:36] = True
    return mask


def test_the_object_takes_the_colour_and_the_rest_does_not():
    drawn = draw_overlay(PHOTO, square(), color=(230, 159, 0), alpha=1.0)
    assert (drawn[24, 24] == (230, 159, 0)).all()
    assert drawn[:6].mean() < PHOTO[:6].mean()


def test_true_and_one_are_drawn_alike():
    as_bool = draw_overlay(PHOTO, square())
    assert (as_bool == draw_overlay(PHOTO, square().astype(np.uint8))).all()


def test_the_photograph_is_left_as_it_was():
    before = PHOTO.copy()
    draw_overlay(PHOTO, square(), peak=(24, 24))
    draw_response(PHOTO, np.ones((3, 4), np.float32))
    assert (before == PHOTO).all()


def test_undecided_pixels_are_hatched_grey_and_not_tinted():
    mask = np.full((48, 64), 255, np.uint8)
    drawn = draw_overlay(PHOTO, mask)
    assert set(np.unique(drawn)) == {105, 150}


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_can_be_drawn(value):
    drawn = draw_overlay(PHOTO, np.full((48, 64), value))
    assert drawn.shape == PHOTO.shape


def test_the_peak_is_marked_where_it_is():
    plain, marked = draw_overlay(PHOTO, square()), draw_overlay(PHOTO, square(), peak=(50, 8))
    rows, columns = np.nonzero((plain != marked).any(axis=2))
    assert abs(rows.mean() - 8) < 1
    assert abs(columns.mean() - 50) < 1


def test_a_peak_in_the_corner_can_be_marked():
    assert mark_peak(PHOTO, (63, 47)).shape == PHOTO.shape


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="64 x 48 pixels came with a mask of 4 x 4"):
        draw_overlay(PHOTO, np.zeros((4, 4), bool))


def test_a_refusal_is_words_on_the_dimmed_photograph_and_no_mask():
    photo = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    dimmed, drawn = draw_overlay(photo, np.zeros((240, 320), bool)), draw_refusal(photo)
    rows, columns = np.nonzero((drawn != dimmed).any(axis=2))
    assert 0.02 < len(rows) / dimmed[..., 0].size < 0.2
    assert (np.ptp(drawn[rows, columns], axis=1) == 0).mean() > 0.5, "black and white, no colour"
    assert abs(rows.mean() - 120) < 20
    assert abs(columns.mean() - 160) < 20


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5)])
def test_a_refusal_fits_a_photograph_of_any_shape(size):
    assert draw_refusal(np.zeros((*size, 3), np.uint8)).shape == (*size, 3)


def test_the_response_is_bright_where_it_is_large():
    response = np.zeros((3, 4), np.float32)
    response[0, 0] = 5.0
    drawn = draw_response(np.full((48, 64, 3), 60, np.uint8), response).astype(int)
    assert drawn[2, 2].sum() > drawn[40, 60].sum() + 100


def test_a_response_without_anything_positive_shows_the_grey_photograph():
    drawn = draw_response(PHOTO, np.full((3, 4), -1.0, np.float32))
    assert (drawn == drawn[..., :1]).all()


def test_the_scale_of_a_response_does_not_matter():
    response = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    assert (draw_response(PHOTO, response) == draw_response(PHOTO, response * 4)).all()


def test_a_response_with_nan_is_refused():
    with pytest.raises(ValueError, match="cannot be drawn"):
        draw_response(PHOTO, np.full((3, 4), np.nan, np.float32))


@given(st.integers(0, 2), st.integers(0, 3))
def test_the_peak_lies_in_its_own_cell(row, column):
    response = np.zeros((3, 4))
    response[row, column] = 1
    x, y = peak_of(response, (48, 64))
    assert (y // 16, x // 16) == (row, column)


def test_a_gallery_is_read_back_as_it_was_saved(tmp_path, make_item):
    item = make_item()
    save_gallery([item], tmp_path)
    (loaded,) = load_gallery(tmp_path)
    for name in ("image", "label", "prediction", "truth"):
        assert (getattr(loaded, name) == getattr(item, name)).all()
    assert np.allclose(loaded.response, item.response, atol=3 / 255)
    assert (loaded.expression, loaded.peak, loaded.numbers) == (
        item.expression,
        item.peak,
        item.numbers,
    )


def test_a_map_of_zeros_is_read_back(tmp_path, make_item):
    save_gallery([make_item(response=np.zeros((3, 4), np.float32))], tmp_path)
    assert not load_gallery(tmp_path)[0].response.any()


def test_the_image_may_be_a_file(tmp_path, make_item):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    save_gallery([make_item(image=tmp_path / "photo.png")], tmp_path / "gallery")
    assert (load_gallery(tmp_path / "gallery")[0].image == PHOTO).all()


def test_an_unreadable_image_is_named(tmp_path, make_item):
    (tmp_path / "photo.png").write_text("no image")
    with pytest.raises(InputError, match=r"photo\.png"):
        save_gallery([make_item(image=tmp_path / "photo.png")], tmp_path / "gallery")


def test_missing_parts_stay_missing(tmp_path, make_item):
    save_gallery([make_item(label=None, response=None, peak=None)], tmp_path)
    (loaded,) = load_gallery(tmp_path)
    assert (loaded.label, loaded.response, loaded.peak) == (None, None, None)


def test_a_later_stage_adds_its_part(tmp_path, make_item):
    save_gallery([make_item(1, prediction=None, numbers={"label_iou": 0.5})], tmp_path)
    later = make_item(1, label=None, response=None, numbers={"prediction_iou": 0.25})
    update_gallery([later, make_item(2)], tmp_path)
    first, second = load_gallery(tmp_path)
    assert first.label is not None
    assert first.prediction is not None
    assert first.numbers == {"label_iou": 0.5, "prediction_iou": 0.25}
    assert second.expression_id == 2


def test_saving_again_leaves_no_old_pictures(tmp_path, make_item):
    save_gallery([make_item(1), make_item(2)], tmp_path)
    save_gallery([make_item(2)], tmp_path)
    assert {path.name.split("-")[0] for path in tmp_path.glob("*.png")} == {"2"}


def test_two_items_of_one_sentence_are_refused(tmp_path, make_item):
    with pytest.raises(ValueError, match="same expression_id"):
        save_gallery([make_item(1), make_item(1)], tmp_path)


def test_no_gallery_is_an_empty_one(tmp_path):
    assert load_gallery(tmp_path) == []


@pytest.mark.parametrize("content", ["[", "{}x", '[{"expression_id": 1}]', "[3]"])
def test_a_damaged_gallery_is_an_input_error(tmp_path, content):
    (tmp_path / "gallery.json").write_text(content)
    with pytest.raises(InputError, match=r"gallery\.json"):
        load_gallery(tmp_path)


def test_a_missing_picture_is_an_input_error(tmp_path, make_item):
    save_gallery([make_item(1)], tmp_path)
    (tmp_path / "1-label.png").unlink()
    with pytest.raises(InputError, match=r"1-label\.png"):
        load_gallery(tmp_path)


def test_pictures_outside_the_gallery_are_never_read(tmp_path, make_item):
    save_gallery([make_item(1)], tmp_path / "gallery")
    Image.fromarray(PHOTO).save(tmp_path / "secret.png")
    index = tmp_path / "gallery" / "gallery.json"
    records = json.loads(index.read_text())
    records[0]["files"]["image"] = "../secret.png"
    index.write_text(json.dumps(records))
    with pytest.raises(InputError, match=r"secret\.png"):
        load_gallery(tmp_path / "gallery")
