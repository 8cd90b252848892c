"""Which photographs of a data set can be used: found, whole, and as large as annotated.

The quick check reads each header and the last bytes: a JPEG or PNG whose end mark is there was
written whole. Files without one, and files of other kinds, are decoded. ``full`` decodes all.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from PIL import Image
from tqdm import tqdm

from tris.data.images import MAX_IMAGE_PIXELS, READ_ERRORS
from tris.errors import InputError, shorten

Verification = Literal["none", "quick", "full"]
Size = tuple[int, int]
"""Height, width, pixels."""

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_NUM_THREADS = 8


@dataclass(frozen=True)
class Photograph:
    """A photograph that can be used.

    Attributes:
        file_name: Relative to the image folder.
        size: Height, width that annotations and predictions are in.
        is_turned: Whether that is the size after the EXIF orientation was applied.
    """

    file_name: str
    size: Size
    is_turned: bool = False


def check_photographs(
    wanted: Mapping[str, Size | None],
    folder: Path,
    *,
    subfolders: Sequence[str] = (),
    verify: Verification = "quick",
    is_quiet: bool = False,
) -> tuple[dict[str, Photograph], dict[str, str]]:
    """Look at every photograph.

    Args:
        wanted: Annotated size by file name; None = take the size of the file, turned upright.
        folder: The image folder.
        subfolders: Where to look inside ``folder`` as well.
        verify: ``none`` believes the annotated sizes and opens nothing that has one.
        is_quiet: No progress bar.

    Returns:
        Photographs by the name that was wanted, and for the others the reason, likewise.

    Raises:
        InputError: If there is no such folder, or a file name leaves it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no image folder {folder}: give --images.")
    for name in wanted:
        refuse_to_leave(name)
    places = [folder, *(folder / name for name in subfolders if (folder / name).is_dir())]

    def look(item: tuple[str, Size | None]) -> Photograph | str:
        return _look(item[0], item[1], places=places, verify=verify)

    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(_NUM_THREADS) as threads,
        tqdm(total=len(wanted), desc="photographs", unit="file", disable=is_quiet) as bar,
    ):
        warnings.simplefilter("ignore")  # Pillow warns of damaged EXIF, which is not read further
        found: dict[str, Photograph] = {}
        problems: dict[str, str] = {}
        for name, result in zip(wanted, threads.map(look, wanted.items()), strict=True):
            bar.update()
            if isinstance(result, Photograph):
                found[name] = result
            else:
                problems[name] = result
    return found, problems


def refuse_to_leave(file_name: str) -> None:
    """Stop at a file name that leads out of the folder it belongs to.

    Raises:
        InputError: If it is absolute, empty, climbs with ``..`` or holds a backslash or NUL.
    """
    path = PurePosixPath(file_name)
    if (
        not file_name
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in file_name
        or "\0" in file_name
        or PureWindowsPath(file_name).drive
    ):
        raise InputError(f"The file name {shorten(file_name)} leaves its folder: it is refused.")


def _look(
    name: str, size: Size | None, *, places: Sequence[Path], verify: Verification
) -> Photograph | str:
    if size is not None and (problem := _refuse_size(*size)):
        return problem
    try:
        path = next((place / name for place in places if (place / name).is_file()), None)
    except OSError as error:
        return f"it cannot be looked for ({error.strerror})"
    if verify == "none" and size is not None:
        relative = name if path is None else os.path.relpath(path, places[0])
        return Photograph(relative, size)
    if path is None:
        return "it is missing"
    if path.stat().st_size == 0:
        return "it is empty"
    relative = path.relative_to(places[0]).as_posix()
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                return f"it is over 100 megapixels ({image.width} x {image.height})"
            if verify == "full" or not _has_end_mark(path, image.format or ""):
                image.load()
            return _fit(relative, image, size)
    except Image.DecompressionBombError:
        return "it is over 100 megapixels"
    except READ_ERRORS as error:
        return f"it cannot be read ({str(error).replace(str(path), name)})"


def _refuse_size(height: int, width: int) -> str:
    """Say what is wrong with an annotated size, nothing where it is possible."""
    annotated = f"{shorten(width)} x {shorten(height)}"
    if min(height, width) <= 0:
        return f"its annotated size is {annotated} pixels"
    is_huge = height * width > MAX_IMAGE_PIXELS
    return f"it is over 100 megapixels ({annotated} annotated)" if is_huge else ""


def _has_end_mark(path: Path, kind: str) -> bool:
    mark = _END_MARKS.get(kind)
    if mark is None:
        return False
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return mark in file.read()


def _fit(file_name: str, image: Image.Image, size: Size | None) -> Photograph | str:
    """Say in which frame the photograph has the annotated size."""
    stored = (image.height, image.width)
    orientation = image.getexif().get(_ORIENTATION_TAG, 1) if "exif" in image.info else 1
    turned = stored[::-1] if orientation in _SIDEWAYS else stored
    if min(stored) == 0:
        return "it has no pixel"
    if size is None:
        return Photograph(file_name, turned, is_turned=orientation in range(2, 9))
    if stored == size:
        return Photograph(file_name, size)
    if turned == size:
        return Photograph(file_name, size, is_turned=True)
    return (
        f"it is {stored[1]} x {stored[0]} pixels, but its annotation says {size[1]} x {size[0]}: "
        "another version of the photograph?"
    )
