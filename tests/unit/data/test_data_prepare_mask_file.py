"""Mask pictures: 0 / 255 with soft edges, 0 / 1, or a palette."""

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


def test_every_index_of_a_palette_but_0_is_foreground(tmp_path: Path):
    indices = np.array([[0, 1, 2], [1, 0, 255]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "mask.png")
    mask = decode_mask(read_mask_file(tmp_path / "mask.png", 2, 3))
    assert (mask == (indices > 0)).all()


def test_a_black_picture_is_an_empty_mask(tmp_path: Path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "mask.png")
    assert not decode_mask(read_mask_file(tmp_path / "mask.png", 3, 4)).any()
