"""Mask pictures: 0 / 255 with soft edges, 0 / 1, or a palette, grey or with colours."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tris.data.masks import decode_mask
from tris.data.prepare.coca import read_mask_file


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (100, 200)], ids=["0/255", "0/1", "soft"])
def test_foreground_is_the_brighter_part(tmp_path: Path, values: tuple[int, int]):
    picture = np.full((3, 4), values[0], np.uint8)
    picture[1, 2] = values[1]
    Image.fromarray(picture).save(tmp_path / "mask.png")
    mask = decode_mask(read_mask_file(tmp_path / "mask.png", 3, 4))
    assert mask.sum() == 1
    assert mask[1, 2] == 1


def test_every_index_but_0_of_a_palette_with_colours_is_foreground(tmp_path: Path):
    indices = np.array([[0, 1, 2], [1, 0, 255]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "mask.png")
    mask = decode_mask(read_mask_file(tmp_path / "mask.png", 2, 3))
    assert (mask == (indices > 0)).all()


@pytest.mark.parametrize(
    "to_palette",
    [
        lambda picture: picture.quantize(2),
        lambda picture: picture.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE),
    ],
    ids=["quantize", "adaptive"],
)
def test_white_is_foreground_where_it_has_index_0(
    tmp_path: Path, to_palette: Callable[[Image.Image], Image.Image]
):
    values = np.array([[0, 255, 0], [0, 0, 255]], np.uint8)
    picture = to_palette(Image.fromarray(values))
    assert (np.asarray(picture)[values == 255] == 0).all()
    picture.save(tmp_path / "mask.png")
    mask = decode_mask(read_mask_file(tmp_path / "mask.png", 2, 3))
    assert (mask == (values == 255)).all()


@pytest.mark.parametrize("values", [(0, 127, 128, 255), (0, 0, 1, 1)], ids=["soft", "0/1"])
@pytest.mark.parametrize("options", [{}, {"transparency": bytes(256)}], ids=["opaque", "clear"])
def test_a_grey_palette_is_read_like_a_grey_picture(
    tmp_path: Path, values: tuple[int, ...], options: dict[str, bytes]
):
    picture = Image.fromarray(np.array([values], np.uint8)).convert("P")
    picture.save(tmp_path / "mask.png", **options)
    mask = decode_mask(read_mask_file(tmp_path / "mask.png", 1, 4))
    assert mask.tolist() == [[0, 0, 1, 1]]


def test_colours_that_no_pixel_uses_leave_a_palette_grey(tmp_path: Path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([255, 255, 255, 0, 0, 0, 128, 0, 0])
    picture.save(tmp_path / "mask.png")
    assert decode_mask(read_mask_file(tmp_path / "mask.png", 1, 2)).tolist() == [[1, 0]]


def test_a_black_picture_is_an_empty_mask(tmp_path: Path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "mask.png")
    assert not decode_mask(read_mask_file(tmp_path / "mask.png", 3, 4)).any()
