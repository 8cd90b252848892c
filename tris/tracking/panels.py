"""Gallery items: one sentence with everything the pipeline made of it, on disk as PNG and JSON."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from tris.errors import InputError
from tris.tracking.overlays import Image, Mask

INDEX_NAME = "gallery.json"
_PICTURES = ("image", "response", "label", "prediction", "truth")


@dataclass(frozen=True)
class GalleryItem:
    """What one row of a gallery shows; parts that no stage has made yet are None.

    Attributes:
        expression_id: The data set's ``sent_id``; it names the files.
        expression: The sentence.
        image: RGB pixels, or the file that holds them.
        expression_type: For example ``attribute``; empty where unknown.
        split: Split that the sentence belongs to.
        response: Stage-1 map, any size; values <= 0 are stored as 0.
        label: Pseudo-label: 0, 1, 255 = ignore; original pixels.
        prediction: Stage-2 mask; original pixels; empty where the network says nothing fits.
        truth: Ground truth; original pixels.
        peak: x, y of the peak of the prediction's logits; original pixels.
        numbers: Figures of this sentence, for example ``{"label_iou": 0.8}``; fractions.
    """

    expression_id: int
    expression: str
    image: Image | Path
    expression_type: str = ""
    split: str = "val"
    response: Float[np.ndarray, "h w"] | None = None
    label: Mask | None = None
    prediction: Mask | None = None
    truth: Mask | None = None
    peak: tuple[int, int] | None = None
    numbers: dict[str, float] = field(default_factory=dict)

    def pixels(self) -> Image:
        """Return the photograph's RGB pixels."""
        return read_rgb(self.image) if isinstance(self.image, Path) else self.image


def read_rgb(path: Path) -> Image:
    """Return an image file as RGB pixels.

    Raises:
        InputError: If the file is missing or no image.
    """
    try:
        with PillowImage.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (FileNotFoundError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}.") from error


def save_gallery(items: Sequence[GalleryItem], directory: Path) -> None:
    """Write the items; a gallery that was there is replaced.

    Raises:
        ValueError: If two items have the same ``expression_id``.
    """
    if len({item.expression_id for item in items}) < len(items):
        raise ValueError("two gallery items have the same expression_id.")
    directory.mkdir(parents=True, exist_ok=True)
    records = [_write_item(item, directory) for item in items]
    _write_atomically(directory / INDEX_NAME, (json.dumps(records, indent=1) + "\n").encode())
    named = {name for record in records for name in record["files"].values()}
    for path in directory.glob("*.png"):
        if path.name not in named:
            path.unlink()


def update_gallery(items: Sequence[GalleryItem], directory: Path) -> None:
    """Add what the items know to the gallery in ``directory``.

    Items with a known ``expression_id`` keep the parts that the new item leaves empty, so each
    stage adds its own picture; unknown items are appended.
    """
    save_gallery(merge_items([*load_gallery(directory), *items]), directory)


def merge_items(items: Iterable[GalleryItem]) -> list[GalleryItem]:
    """Return one item per expression: later ones add the parts that they have."""
    merged: dict[int, GalleryItem] = {}
    for item in items:
        known = merged.get(item.expression_id)
        merged[item.expression_id] = item if known is None else _merge(known, item)
    return list(merged.values())


def load_gallery(directory: Path) -> list[GalleryItem]:
    """Return the items in the order saved; an empty list where there is no gallery.

    Raises:
        InputError: If ``gallery.json`` is damaged or a picture is missing.
    """
    path = directory / INDEX_NAME
    if not path.is_file():
        return []
    try:
        return [_read_item(record, directory) for record in json.loads(path.read_text("utf-8"))]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no gallery ({type(error).__name__}: {error}); delete it and evaluate again."
        ) from error


def _merge(known: GalleryItem, new: GalleryItem) -> GalleryItem:
    parts = {
        name: getattr(new, name) for name in ("response", "label", "prediction", "truth", "peak")
    }
    given = {name: part for name, part in parts.items() if part is not None}
    return dataclasses.replace(
        known,
        **given,
        expression_type=new.expression_type or known.expression_type,
        numbers=known.numbers | new.numbers,
    )


def _write_item(item: GalleryItem, directory: Path) -> dict[str, Any]:
    scale = 0.0 if item.response is None else max(float(item.response.max()), 0.0)
    pictures: dict[str, np.ndarray | None] = {
        "image": item.pixels(),
        "response": None if item.response is None else _to_levels(item.response, scale),
        **{name: _to_uint8(getattr(item, name)) for name in ("label", "prediction", "truth")},
    }
    files = {}
    for name, picture in pictures.items():
        if picture is not None:
            files[name] = f"{item.expression_id}-{name}.png"
            _write_png(directory / files[name], picture)
    return {
        "expression_id": item.expression_id,
        "expression": item.expression,
        "expression_type": item.expression_type,
        "split": item.split,
        "peak": item.peak,
        "response_scale": scale,
        "numbers": {name: float(value) for name, value in item.numbers.items()},
        "files": files,
    }


def _read_item(record: Mapping[str, Any], directory: Path) -> GalleryItem:
    pictures = {
        name: _read_png(directory / Path(record["files"][name]).name)
        for name in _PICTURES
        if name in record["files"]
    }
    response = pictures.pop("response", None)
    if response is not None:
        response = response.astype(np.float32) / 255 * record["response_scale"]
    return GalleryItem(
        expression_id=record["expression_id"],
        expression=record["expression"],
        expression_type=record["expression_type"],
        split=record["split"],
        response=response,
        peak=None if record["peak"] is None else (record["peak"][0], record["peak"][1]),
        numbers=record["numbers"],
        **pictures,
    )


def _to_levels(response: Float[np.ndarray, "h w"], scale: float) -> UInt8[np.ndarray, "h w"]:
    if scale == 0.0:
        return np.zeros(response.shape, np.uint8)
    return np.round(255 * np.clip(response / scale, 0, 1)).astype(np.uint8)


def _to_uint8(mask: Mask | None) -> UInt8[np.ndarray, "height width"] | None:
    return None if mask is None else mask.astype(np.uint8)


def _write_png(path: Path, picture: np.ndarray) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    PillowImage.fromarray(picture).save(scratch, format="PNG")
    scratch.replace(path)


def _read_png(path: Path) -> np.ndarray:
    try:
        with PillowImage.open(path) as picture:
            return np.asarray(picture)
    except (FileNotFoundError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read: {error}; evaluate the run again.") from error


def _write_atomically(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)
