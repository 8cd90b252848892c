import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tris.data.images import read_photograph
from tris.data.prepare.photographs import Photograph, check_photographs
from tris.errors import InputError

HEIGHT, WIDTH = 30, 40


def picture(mode: str = "RGB") -> Image.Image:
    """Left half dark, right half bright."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:, WIDTH // 2 :] = 200
    return Image.fromarray(values).convert(mode)


def save_turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(path, exif=exif)


def look(
    folder: Path, name: str, size: tuple[int, int] | None = (HEIGHT, WIDTH), **options: object
) -> Photograph | str:
    found, problems = check_photographs({name: size}, folder, is_quiet=True, **options)
    return found[name] if name in found else problems[name]


def test_a_whole_photograph_is_found(tmp_path: Path):
    picture().save(tmp_path / "a.jpg")
    assert look(tmp_path, "a.jpg") == Photograph("a.jpg", (HEIGHT, WIDTH))


def test_a_photograph_in_a_known_subfolder_is_found(tmp_path: Path):
    (tmp_path / "train2014").mkdir()
    picture().save(tmp_path / "train2014" / "a.jpg")
    found = look(tmp_path, "a.jpg", subfolders=("train2014",))
    assert found == Photograph("train2014/a.jpg", (HEIGHT, WIDTH))


def test_a_missing_photograph_is_named(tmp_path: Path):
    assert look(tmp_path, "a.jpg") == "it is missing"


def test_an_empty_file_is_named(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    assert look(tmp_path, "a.jpg") == "it is empty"


def test_a_file_that_is_no_image_is_named(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    assert "cannot be read" in look(tmp_path, "a.jpg")


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "webp"])
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_truncated_file_is_named(tmp_path: Path, ending: str, part: float):
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "cannot be read" in look(tmp_path, path.name)


def test_a_jpeg_with_padding_after_its_end_is_whole(tmp_path: Path):
    picture().save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(bytes(500))
    assert look(tmp_path, "a.jpg") == Photograph("a.jpg", (HEIGHT, WIDTH))


def test_damage_in_the_middle_needs_the_full_check(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert isinstance(look(tmp_path, "a.png"), Photograph)
    assert "cannot be read" in look(tmp_path, "a.png", verify="full")


def test_an_image_without_pixels_is_named(tmp_path: Path):
    (tmp_path / "a.ppm").write_bytes(b"P6\n0 0\n255\n")
    assert isinstance(look(tmp_path, "a.ppm", None), str)


def test_an_annotated_size_of_zero_is_named(tmp_path: Path):
    picture().save(tmp_path / "a.jpg")
    assert look(tmp_path, "a.jpg", (0, 0)) == "its annotated size is 0 x 0 pixels"


def save_huge(path: Path, side: int) -> None:
    """Write a small PNG whose header says that it is large."""
    Image.new("1", (8, 8)).save(path)
    content = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


@pytest.mark.parametrize("side", [10_001, 20_000])
def test_over_a_hundred_megapixels_is_named_without_decoding(tmp_path: Path, side: int):
    save_huge(tmp_path / "a.png", side)
    assert "over 100 megapixels" in look(tmp_path, "a.png", (side, side))


def test_another_size_than_annotated_is_named_with_both(tmp_path: Path):
    picture().save(tmp_path / "a.jpg")
    assert "40 x 30 pixels, but its annotation says 41 x 30" in look(tmp_path, "a.jpg", (30, 41))


def test_exif_is_ignored_where_the_stored_size_is_the_annotated_one(tmp_path: Path):
    save_turned(tmp_path / "a.jpg", 6)
    assert look(tmp_path, "a.jpg", (HEIGHT, WIDTH)) == Photograph("a.jpg", (HEIGHT, WIDTH))


def test_exif_is_followed_where_only_the_turned_size_is_the_annotated_one(tmp_path: Path):
    save_turned(tmp_path / "a.jpg", 6)
    turned = Photograph("a.jpg", (WIDTH, HEIGHT), is_turned=True)
    assert look(tmp_path, "a.jpg", (WIDTH, HEIGHT)) == turned


@pytest.mark.parametrize(("orientation", "size"), [(6, (WIDTH, HEIGHT)), (3, (HEIGHT, WIDTH))])
def test_exif_is_followed_where_no_size_is_annotated(
    tmp_path: Path, orientation: int, size: tuple[int, int]
):
    save_turned(tmp_path / "a.jpg", orientation)
    assert look(tmp_path, "a.jpg", None) == Photograph("a.jpg", size, is_turned=True)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "a/../../b.jpg", "..\\a.jpg", "C:/a.jpg", "", "a\0.jpg"]
)
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str):
    with pytest.raises(InputError, match="leaves its folder"):
        look(tmp_path, name)


def test_a_missing_image_folder_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no image folder"):
        look(tmp_path / "nothing", "a.jpg")


def test_no_check_opens_nothing(tmp_path: Path):
    assert look(tmp_path, "a.jpg", verify="none") == Photograph("a.jpg", (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("L", "png"), ("CMYK", "jpg"), ("P", "png"), ("LA", "png"), ("RGBA", "webp")],
)
def test_every_kind_of_colour_is_read_as_rgb(tmp_path: Path, mode: str, ending: str):
    path = tmp_path / f"a.{ending}"
    picture(mode).save(path)
    assert isinstance(look(tmp_path, path.name), Photograph)
    pixels = np.asarray(read_photograph(path))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels[:, 5].max() < 30
    assert pixels[:, -5].min() > 170


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path):
    values = np.full((HEIGHT, WIDTH), 257 * 100, np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert isinstance(look(tmp_path, "a.png"), Photograph)
    assert (np.asarray(read_photograph(tmp_path / "a.png")) == 100).all()


def test_transparency_is_laid_on_white(tmp_path: Path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (np.asarray(read_photograph(tmp_path / "a.png")) == 255).all()


def test_a_turned_photograph_is_read_upright(tmp_path: Path):
    save_turned(tmp_path / "a.jpg", 6)
    upright = np.asarray(read_photograph(tmp_path / "a.jpg", is_turned=True))
    stored = np.asarray(read_photograph(tmp_path / "a.jpg"))
    assert upright.shape == (WIDTH, HEIGHT, 3)
    assert stored.shape == (HEIGHT, WIDTH, 3)
    assert upright[5].max() < 30
    assert upright[-5].min() > 170


@pytest.mark.parametrize("content", [None, b"", b"<html>404</html>"])
def test_reading_a_bad_photograph_names_it(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg"):
        read_photograph(tmp_path / "a.jpg")


def test_reading_a_huge_photograph_is_refused(tmp_path: Path):
    save_huge(tmp_path / "a.png", 10_001)
    with pytest.raises(InputError, match="over 100 megapixels"):
        read_photograph(tmp_path / "a.png")
