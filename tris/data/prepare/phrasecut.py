"""PhraseCut (VGPhraseCut v0): phrases with one or many instances, for zero-shot tests.

Format: https://github.com/ChenyunWu/PhraseCutDataset: ``refer_<split>.json`` (tasks) and
``image_data_split.json`` (sizes, COCO ids). The official ground truth is drawn by Pillow, with
points cut to integers and the outline filled, and so it is here. ``refer_val.json`` lacks the
100 photographs of ``miniv``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tris.data.masks import Rle, encode_mask, mask_to_box
from tris.data.prepare.coco import read_json
from tris.data.prepare.photographs import Size
from tris.data.prepare.refer import find_file
from tris.data.prepare.release import Box, Draft, Log, clean_text, take
from tris.data.prepare.simple import SimpleRelease
from tris.data.referent import Referent
from tris.errors import InputError, shorten

Task = Mapping[str, Any]
SPLITS = ("train", "val", "miniv", "test")


def read_phrasecut(*, source: Path, splits: tuple[str, ...] = ("test",)) -> SimpleRelease:
    """Read the tasks of some splits.

    Args:
        source: ``VGPhraseCut_v0``, or its parent.
        splits: Of `SPLITS`.

    Raises:
        InputError: If the files cannot be used, or a task's photograph is not in the list.
    """
    sizes_path = find_file(
        source, "VGPhraseCut_v0", ("image_data_split.json", "image_data_split3000.json")
    )
    paths = [find_file(source, "VGPhraseCut_v0", (f"refer_{split}.json",)) for split in splits]
    photographs = {
        take(record, "image_id", int, of=f"A photograph of {sizes_path}"): record
        for record in _read_list(sizes_path)
    }
    tasks = [
        (split, task)
        for split, path in zip(splits, paths, strict=True)
        for task in _read_list(path)
    ]
    sizes = {_file_name(task): _size(task, photographs, sizes_path) for _, task in tasks}
    log = Log()

    def make_drafts() -> Iterator[Draft]:
        for number, (split, task) in enumerate(tasks):
            draft = _draft(number, split, task, photographs)
            if draft is None:
                log.left_out.append(f"task {shorten(task.get('task_id'))}: its phrase is empty")
            else:
                yield draft

    return SimpleRelease(
        dataset="phrasecut",
        sources=(sizes_path, *paths),
        sizes=sizes,
        make_drafts=make_drafts,
        num_drafts=len(tasks),
        image_subfolders=("VG_100K", "VG_100K_2", "images"),
        log=log,
    )


def draw_polygons(
    instances: Any,  # noqa: ANN401 - checked here
    height: int,
    width: int,
) -> tuple[Rle, tuple[Box, ...]]:
    """Draw instances of polygons of points as PhraseCut does, with one box per instance.

    Raises:
        InputError: If they are no lists of lists of lists of number pairs.
    """
    union = np.zeros((height, width), bool)
    boxes: list[Box] = []
    for polygons in instances:
        canvas = Image.new("1", (width, height))
        try:
            for polygon in polygons:
                points = [(int(x), int(y)) for x, y in polygon]
                if len(points) >= 2:
                    ImageDraw.Draw(canvas).polygon(points, fill=1, outline=1)
        except (TypeError, ValueError) as error:
            raise InputError(f"Its polygons should be lists of x, y ({error}).") from error
        instance = np.asarray(canvas)
        union |= instance
        boxes.append(mask_to_box(instance) or (0.0, 0.0, 0.0, 0.0))
    return encode_mask(union), tuple(boxes)


def _draft(number: int, split: str, task: Task, photographs: Mapping[int, Task]) -> Draft | None:
    name = f"Task {shorten(task.get('task_id'))}"
    phrase = clean_text(take(task, "phrase", str, of=name))
    structure = task.get("phrase_structure")
    structure = structure if isinstance(structure, dict) else {}
    coco_id = photographs[task["image_id"]].get("coco_id")
    referent = Referent(
        referent_id=number + 1,
        image_id=task["image_id"],
        file_name=_file_name(task),
        height=0,
        width=0,
        expression_ids=(number + 1,),
        sentences=(phrase.lower(),),
        raw_sentences=(phrase,),
        expression_types=(str(structure.get("type", "")),),
        category=str(structure.get("name", "")),
        annotation_ids=_annotation_ids(task, name),
        source_id=take(task, "task_id", str, of=name),
        coco_id=coco_id if isinstance(coco_id, int) else 0,
    )
    polygons = take(task, "Polygons", list, of=name)

    def draw(height: int, width: int) -> tuple[Rle, tuple[Box, ...]]:
        try:
            return draw_polygons(polygons, height, width)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error

    return Draft((split,), referent, draw) if phrase else None


def _annotation_ids(task: Task, name: str) -> tuple[int, ...]:
    ids = take(task, "ann_ids", list, of=name)
    if not all(isinstance(key, int) for key in ids):
        raise InputError(f"{name} should have integers as 'ann_ids', not {shorten(ids)}.")
    return tuple(ids)


def _read_list(path: Path) -> list[Any]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise InputError(f"{path} should hold a list of dict: is it PhraseCut's?")
    return content


def _file_name(task: Task) -> str:
    image_id = take(task, "image_id", int, of=f"Task {shorten(task.get('task_id'))}")
    return f"{image_id}.jpg"


def _size(task: Task, photographs: Mapping[int, Task], path: Path) -> Size:
    record = photographs.get(task["image_id"])
    if record is None:
        raise InputError(f"Task {shorten(task.get('task_id'))} has a photograph that {path} lacks.")
    name = f"Photograph {task['image_id']} of {path}"
    return take(record, "height", int, of=name), take(record, "width", int, of=name)
