"""CoCA, and sets like it (CoSal2015, CoSOD3k): groups of photographs that share a category.

Format: http://zhaozhang.net/coca.html: ``image/<category>/<stem>.jpg`` and
``binary/<category>/<stem>.png``; repacks call the folders otherwise. The category is the sentence,
as in GRSer (arXiv 2305.12452, section 5.1). Photographs and masks are paired by category and stem.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tris.data.images import READ_ERRORS
from tris.data.masks import Rle, encode_mask, rle_to_box
from tris.data.prepare.release import Box, Draft
from tris.data.prepare.simple import SimpleRelease
from tris.data.referent import Referent
from tris.errors import InputError

_MASK_FOLDERS = ("binary", "GroundTruth", "gts", "gt", "groundtruth", "masks")
_PHOTOGRAPH_ENDINGS = (".jpg", ".jpeg", ".png")


def read_coca(*, source: Path, images: Path, dataset: str = "coca") -> SimpleRelease:
    """Pair photographs and masks.

    Args:
        source: The folder that holds ``binary/`` (or ``GroundTruth/``, ``gts/``, ...), or that
            folder itself.
        images: The folder of categories with photographs.
        dataset: Name of the data set.

    Raises:
        InputError: If there is no photograph, or one has no mask.
    """
    masks = next((source / name for name in _MASK_FOLDERS if (source / name).is_dir()), source)
    if not images.is_dir() or not masks.is_dir():
        raise InputError(f"{source} and {images} should be the folders of masks and photographs.")
    found = [
        path.relative_to(images)
        for path in sorted(images.glob("*/*"))
        if path.suffix.lower() in _PHOTOGRAPH_ENDINGS and not path.name.startswith(".")
    ]
    if not found:
        raise InputError(f"{images} holds no <category>/<photograph>.jpg.")
    mask_folders = {path.name.lower(): path for path in masks.iterdir() if path.is_dir()}
    pairs = [(path, _mask_of(path, mask_folders, masks)) for path in found]

    def make_drafts() -> Iterator[Draft]:
        for number, (photograph, mask) in enumerate(pairs):
            yield _draft(number + 1, photograph, mask)

    return SimpleRelease(
        dataset=dataset,
        sources=(masks,),
        sizes={path.as_posix(): None for path in found},
        make_drafts=make_drafts,
        num_drafts=len(found),
        training_splits=(),
    )


def category_sentence(folder: str) -> str:
    """Return a category folder's name as words: "Rubik's_Cube_2" -> "rubik's cube"."""
    return " ".join(re.sub(r"[_\d]+", " ", folder).lower().split())


def read_mask_file(path: Path, height: int, width: int) -> Rle:
    """Return the mask in a picture: grey over 127 is foreground (soft edges are cut there).

    A picture without any value above 1 is one of 0 and 1: there 1 is foreground. Where a pixel has
    a colour from a palette, every index but 0 is foreground; a palette of greys gives grey values.

    Raises:
        InputError: If it cannot be read, or has another size than its photograph.
    """
    try:
        with Image.open(path) as picture:
            values = _grey_values(picture)
    except READ_ERRORS as error:
        raise InputError(f"The mask {path} cannot be read ({error}).") from error
    if values.shape != (height, width):
        raise InputError(
            f"The mask {path} is {values.shape[1]} x {values.shape[0]} pixels, its photograph "
            f"{width} x {height}."
        )
    return encode_mask(values > (127 if values.max(initial=0) > 1 else 0))


def draw_mask_file(path: Path, height: int, width: int) -> tuple[Rle, tuple[Box, ...]]:
    """Return the mask in a picture and the box around it."""
    rle = read_mask_file(path, height, width)
    box = rle_to_box(rle)
    return rle, (box,) if box else ()


def _grey_values(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the grey of each pixel; 1 for every index but 0 of a palette with colours."""
    if picture.mode != "P":
        return np.asarray(picture.convert("L"))
    # Pillow warns when a palette with transparency is converted to "L".
    colours = np.asarray(picture.convert("RGBA"))[..., :3]
    is_grey = (colours == colours[..., :1]).all()
    return colours[..., 0] if is_grey else (np.asarray(picture) > 0).astype(np.uint8)


def _mask_of(photograph: Path, folders: dict[str, Path], masks: Path) -> Path:
    folder = folders.get(photograph.parent.name.lower())
    if folder is not None and (folder / f"{photograph.stem}.png").is_file():
        return folder / f"{photograph.stem}.png"
    raise InputError(
        f"{photograph} has no mask {photograph.parent}/{photograph.stem}.png: {masks}."
    )


def _draft(number: int, photograph: Path, mask: Path) -> Draft:
    category = photograph.parent.name
    sentence = category_sentence(category)
    if not sentence:
        raise InputError(f"The folder {category!r} should be named after its category.")
    referent = Referent(
        referent_id=number,
        image_id=number,
        file_name=photograph.as_posix(),
        height=0,
        width=0,
        expression_ids=(number,),
        sentences=(sentence,),
        raw_sentences=(category,),
        category=sentence,
        annotation_ids=(number,),
        group=category,
        source_id=f"{category}/{photograph.stem}",
    )
    return Draft(("test",), referent, partial(draw_mask_file, mask))
