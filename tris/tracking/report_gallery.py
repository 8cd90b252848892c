"""The gallery of the report: every sentence with its pictures, runs below one another."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image as PillowImage

from tris.batch import IGNORE_INDEX
from tris.tracking.names import percent
from tris.tracking.overlays import (
    LABEL_COLOUR,
    PREDICTION_COLOUR,
    REFUSAL,
    TRUTH_COLOUR,
    Colour,
    Image,
    Mask,
    draw_overlay,
    draw_refusal,
    draw_response,
    mark_peak,
    peak_of,
)
from tris.tracking.panels import GalleryItem
from tris.tracking.runs import Run

PICTURE_SIDE = 320
_COLOURS: dict[str, Colour] = {
    "label": LABEL_COLOUR,
    "prediction": PREDICTION_COLOUR,
    "truth": TRUTH_COLOUR,
}
_CAPTIONS = {
    "image": "Image",
    "response": "Response",
    "label": "Label",
    "prediction": "Prediction",
    "truth": "Truth",
}


class Figure(NamedTuple):
    """A picture file and what it shows."""

    source: str
    caption: str
    alternative: str
    width: int
    height: int


class CardRow(NamedTuple):
    """Pictures of one run (or of the data) and its figures for this sentence."""

    title: str
    numbers: list[str]
    figures: list[Figure]


class Card(NamedTuple):
    """One sentence of one image."""

    expression: str
    kind: str
    rows: list[CardRow]


def make_cards(
    runs: Sequence[Run], titles: Sequence[str], folder: Path, *, most: int
) -> list[Card]:
    """Draw the pictures into ``folder`` and return the cards.

    Args:
        runs: Sentences with the same ``expression_id`` share a card.
        titles: One per run.
        folder: Exists; sources of the figures are relative to its parent.
        most: Sentences at most.
    """
    found: dict[int, dict[int, GalleryItem]] = {}
    for number, run in enumerate(runs):
        for item in run.gallery:
            found.setdefault(item.expression_id, {})[number] = item
    return [_card(items, titles, folder) for items in list(found.values())[:most]]


def _card(items: dict[int, GalleryItem], titles: Sequence[str], folder: Path) -> Card:
    first = next(iter(items.values()))
    is_single = len(titles) == 1
    kinds = tuple(_CAPTIONS) if is_single else ("response", "label", "prediction")
    rows = [
        CardRow(
            "" if is_single else titles[number],
            [_number(name, value) for name, value in item.numbers.items()],
            _figures(item, kinds, folder, prefix=f"{number}"),
        )
        for number, item in items.items()
    ]
    if not is_single:
        rows.insert(0, CardRow("", [], _figures(first, ("image", "truth"), folder, prefix="all")))
    return Card(first.expression, first.expression_type, rows)


def _figures(item: GalleryItem, kinds: Sequence[str], folder: Path, *, prefix: str) -> list[Figure]:
    fitted = _fit(item)
    figures = []
    for kind in kinds:
        is_refused = kind == "prediction" and _is_refused(item)
        picture = draw_refusal(fitted.pixels()) if is_refused else _draw(fitted, kind)
        if picture is None:
            continue
        name = f"{prefix}-{item.expression_id}-{kind}.webp"
        PillowImage.fromarray(picture).save(folder / name, quality=88, method=4)
        height, width = picture.shape[:2]
        source = f"{folder.name}/{name}"
        alternative = _alternative(item, kind)
        figures.append(Figure(source, _CAPTIONS[kind], alternative, width, height))
    return figures


def _draw(item: GalleryItem, kind: str) -> Image | None:
    image = item.pixels()
    if kind == "image":
        return image
    if kind == "response":
        if item.response is None:
            return None
        heat = draw_response(image, item.response)
        return mark_peak(heat, peak_of(item.response, (image.shape[0], image.shape[1])))
    mask: Mask | None = getattr(item, kind)
    if mask is None:
        return None
    peak = item.peak if kind == "prediction" else None
    return draw_overlay(image, mask, peak=peak, color=_COLOURS[kind])


def _fit(item: GalleryItem) -> GalleryItem:
    """Bring every picture to `PICTURE_SIDE`: small ones larger, so that lines stay fine."""
    image = item.pixels()
    height, width = image.shape[:2]
    scale = PICTURE_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    peak = None
    if item.peak is not None:
        peak = (int((item.peak[0] + 0.5) * scale), int((item.peak[1] + 0.5) * scale))
    return dataclasses.replace(
        item,
        image=np.asarray(cv2.resize(image, size, interpolation=method)),
        label=_resize_mask(item.label, size),
        prediction=_resize_mask(item.prediction, size),
        truth=_resize_mask(item.truth, size),
        peak=peak,
    )


def _resize_mask(mask: Mask | None, size: tuple[int, int]) -> Mask | None:
    """Resize with smooth borders; undecided pixels are taken from the nearest one."""
    if mask is None:
        return None
    levels = mask.astype(np.uint8)
    share = cv2.resize((levels == 1).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    nearest = np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST))
    resized: Mask = np.where(nearest == IGNORE_INDEX, nearest, share > 0.5).astype(np.uint8)
    return resized


def _alternative(item: GalleryItem, kind: str) -> str:
    if kind == "image":
        return f"Photograph for “{item.expression}”"
    if kind == "response":
        return f"Heat map of the response to “{item.expression}”, its peak marked"
    mask: Mask = getattr(item, kind)
    if kind == "prediction" and _is_refused(item):
        return f"{_CAPTIONS[kind]} for “{item.expression}”: {REFUSAL}"
    share = percent(float(np.mean(mask == 1)))
    return f"{_CAPTIONS[kind]} for “{item.expression}”: {share:.1f} % of the image"


def _is_refused(item: GalleryItem) -> bool:
    """Say whether there is no mask: the network says that nothing fits, or marks no pixel."""
    return item.prediction is not None and not item.prediction.any()


def _number(name: str, value: float) -> str:
    words = name.replace("_", " ").replace("iou", "IoU")
    return f"{words} {percent(value):.0f} %"
