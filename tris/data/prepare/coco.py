"""COCO's ``instances.json``: photographs, annotations, categories, and how they are drawn."""

import functools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tris.data.masks import (
    Overlap,
    Rle,
    check_rle,
    decode_mask,
    empty_rle,
    encode_mask,
    merge_masks,
    polygons_to_rle,
    rle_to_box,
)
from tris.data.prepare.photographs import Size
from tris.data.prepare.release import Box, Draw, Log, take
from tris.errors import InputError, shorten

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Instances:
    """The part of an ``instances.json`` that a data set refers to.

    Attributes:
        file_names: By image id.
        sizes: Height, width by image id.
        annotations: By annotation id, as they came.
        categories: Name by category id.
    """

    file_names: dict[int, str]
    sizes: dict[int, Size]
    annotations: dict[int, Record]
    categories: dict[int, str]


def read_json(path: Path) -> Any:  # noqa: ANN401 - what a file holds
    """Return what a JSON file holds.

    Raises:
        InputError: If it is missing or no JSON.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): fetch it again.") from error


def read_instances(
    path: Path, *, image_ids: Collection[int], annotation_ids: Collection[int]
) -> Instances:
    """Read an ``instances.json`` and keep what is referred to.

    Raises:
        InputError: If it is no such file, or gives an id that is referred to twice, differently.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
        raise InputError(f"{path} has no images and annotations: is it COCO's instances.json?")
    images = _by_id(content["images"], keep=image_ids, what="image", path=path)
    annotations = _by_id(content["annotations"], keep=annotation_ids, what="annotation", path=path)
    return Instances(
        file_names={
            key: take(image, "file_name", str, of=f"Image {key} of {path}")
            for key, image in images.items()
        },
        sizes={
            key: (
                take(image, "height", int, of=f"Image {key} of {path}"),
                take(image, "width", int, of=f"Image {key} of {path}"),
            )
            for key, image in images.items()
        },
        annotations=annotations,
        categories=_category_names(content.get("categories"), path),
    )


def annotation_drawer(
    annotations: Sequence[Record], *, overlapping: Overlap, log: Log, of: str
) -> Draw:
    """Return the function that draws a referent's annotations, when it is called."""
    return functools.partial(_draw, annotations, overlapping=overlapping, log=log, of=of)


def draw_nothing(height: int, width: int) -> tuple[Rle, tuple[Box, ...]]:
    """Draw a referent that is not in the image."""
    return empty_rle(height, width), ()


def draw_segmentation(
    segmentation: Any,  # noqa: ANN401 - checked here
    height: int,
    width: int,
    *,
    overlapping: Overlap = "union",
    log: Log | None = None,
) -> Rle:
    """Return the mask of COCO's ``segmentation``: polygons, an RLE, or a list of RLEs (refclef).

    Polygons that are no area (fewer than three points, or half a point) are skipped and counted,
    as ReLA's reader does; what lies outside the image is clipped.

    Raises:
        InputError: If it is none of these, or an RLE has another size than the image.
    """
    if isinstance(segmentation, Mapping):
        return _of_size(check_rle(dict(segmentation)), height, width)
    if not isinstance(segmentation, list | tuple):
        raise InputError(f"a segmentation must be polygons or an RLE, not {shorten(segmentation)}.")
    if segmentation and isinstance(segmentation[0], Mapping):
        parts = [_of_size(check_rle(dict(part)), height, width) for part in segmentation]
        if overlapping == "refer-quirk" and len(parts) > 1:
            summed = np.sum([decode_mask(part) for part in parts], axis=0, dtype=np.int64)
            return encode_mask(summed == 1)
        return merge_masks(parts)
    areas = [part for part in segmentation if not _is_no_area(part)]
    if log is not None and len(areas) < len(segmentation):
        log.mend("polygons with fewer than three points were skipped")
    if not areas:
        return empty_rle(height, width)
    return polygons_to_rle(areas, height, width, overlapping=overlapping)


def _draw(
    annotations: Sequence[Record],
    height: int,
    width: int,
    *,
    overlapping: Overlap,
    log: Log,
    of: str,
) -> tuple[Rle, tuple[Box, ...]]:
    masks: list[Rle] = []
    boxes: list[Box] = []
    for annotation in annotations:
        try:
            mask = draw_segmentation(
                annotation.get("segmentation"), height, width, overlapping=overlapping, log=log
            )
            masks.append(mask)
            boxes.append(_box(annotation, mask))
        except InputError as error:
            raise InputError(
                f"Annotation {shorten(annotation.get('id'))} of {of}: {error}"
            ) from error
    return masks[0] if len(masks) == 1 else merge_masks(masks), tuple(boxes)


def _box(annotation: Record, mask: Rle) -> Box:
    """Return the annotated box (D3 wraps it in an array), or the mask's where there is none."""
    given = annotation.get("bbox")
    if given is None:
        return rle_to_box(mask) or (0.0, 0.0, 0.0, 0.0)
    try:
        x, y, width, height = (float(value) for value in np.asarray(given).reshape(-1))
    except (TypeError, ValueError) as error:
        raise InputError(f"its bbox must be x, y, width, height, not {shorten(given)}.") from error
    if not all(math.isfinite(value) for value in (x, y, width, height)):
        raise InputError(f"its bbox has values that are no numbers: {shorten(given)}.")
    return x, y, width, height


def _of_size(rle: Rle, height: int, width: int) -> Rle:
    if rle["size"] != [height, width]:
        raise InputError(
            f"its RLE has size {rle['size']}, its photograph {[height, width]} (height, width)."
        )
    return rle


def _is_no_area(polygon: object) -> bool:
    return isinstance(polygon, list | tuple) and (len(polygon) < 6 or len(polygon) % 2 == 1)


def _category_names(records: Any, path: Path) -> dict[int, str]:  # noqa: ANN401 - checked here
    """Return names by id; some copies have no categories, or some without name."""
    if not isinstance(records, list | None):
        raise InputError(f"{path} should have a list of categories, not {shorten(records)}.")
    return {
        record["id"]: str(record["name"])
        for record in records or ()
        if isinstance(record, dict) and isinstance(record.get("id"), int) and "name" in record
    }


def _by_id(
    records: Any,  # noqa: ANN401 - checked here
    *,
    keep: Collection[int],
    what: str,
    path: Path,
) -> dict[int, Record]:
    if not isinstance(records, list):
        raise InputError(f"{path} should have a list of {what}s.")
    found: dict[int, Record] = {}
    for record in records:
        key = record.get("id") if isinstance(record, dict) else None
        if isinstance(key, int) and key in keep:
            if key in found and found[key] != record:
                raise InputError(f"{path} has two different {what}s with id {key}: fetch it again.")
            found[key] = record
    return found
