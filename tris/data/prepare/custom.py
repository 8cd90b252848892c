"""Your own data: JSON Lines, one photograph and its sentences about one thing per line.

The format is documented, with a tutorial, in ``docs/data.md``.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tris.data.masks import Rle, rle_to_box
from tris.data.prepare.coca import read_mask_file
from tris.data.prepare.coco import draw_nothing, draw_segmentation
from tris.data.prepare.photographs import refuse_to_leave
from tris.data.prepare.release import Box, Draft, Draw, Log, clean_text, take
from tris.data.prepare.simple import SimpleRelease
from tris.data.referent import Referent
from tris.errors import InputError, shorten

Record = Mapping[str, Any]
_MASK_KEYS = ("mask", "polygons", "mask_file")
_KEYS = {"image", "expressions", "split", "no_target", "category", "group", "id", *_MASK_KEYS}


def read_custom(*, source: Path, dataset: str = "custom") -> SimpleRelease:
    """Read a JSON Lines file.

    Args:
        source: The file, or a folder with one ``.jsonl`` file. Mask files are relative to it.
        dataset: Name of the data set.

    Raises:
        InputError: If a line cannot be used; its number is named.
    """
    path = _find_file(source)
    records = list(_read_lines(path))
    image_ids = {
        name: number + 1
        for number, name in enumerate(dict.fromkeys(record["image"] for _, record in records))
    }
    log = Log()

    def make_drafts() -> Iterator[Draft]:
        next_expression = 1
        for number, (line, record) in enumerate(records):
            where = f"Line {line} of {path}"
            texts = [clean_text(text) for text in record["expressions"]]
            kept = [text for text in texts if text]
            if len(kept) < len(texts):
                log.left_out.append(f"{where}: {len(texts) - len(kept)} empty expressions")
            if kept:
                ids = tuple(range(next_expression, next_expression + len(kept)))
                next_expression += len(kept)
                referent = _referent(record, number + 1, image_ids[record["image"]], ids, kept)
                draw = _drawer(record, path.parent, where)
                yield Draft((record.get("split", "train"),), referent, draw)

    return SimpleRelease(
        dataset=dataset,
        sources=(path,),
        sizes=dict.fromkeys(image_ids),
        make_drafts=make_drafts,
        num_drafts=len(records),
        log=log,
    )


def _find_file(source: Path) -> Path:
    if source.is_dir():
        files = sorted(source.glob("*.jsonl"))
        if len(files) != 1:
            raise InputError(f"{source} holds {len(files)} .jsonl files: give --source the file.")
        return files[0]
    if not source.is_file():
        raise InputError(f"There is no file {source}: give --source a .jsonl file.")
    return source


def _read_lines(path: Path) -> Iterator[tuple[int, Record]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"Line {number} of {path}"
                    yield number, _check(_parse(line, where), where)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text ({error}): save it as UTF-8.") from error


def _parse(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}).") from error


def _check(record: Any, where: str) -> Record:  # noqa: ANN401 - what a line holds
    """Refuse what would be misread later."""
    if not isinstance(record, dict):
        raise InputError(f"{where} should be an object {{...}}, not {shorten(record)}.")
    unknown = sorted(set(record) - _KEYS)
    if unknown:
        raise InputError(f"{where} has unknown keys {shorten(unknown)}; known are {sorted(_KEYS)}.")
    refuse_to_leave(take(record, "image", str, of=where))
    expressions = take(record, "expressions", list, of=where)
    if not expressions or not all(isinstance(text, str) for text in expressions):
        raise InputError(f"{where} should have a list of sentences as 'expressions'.")
    for key, kind in (("split", str), ("category", str), ("group", str), ("no_target", bool)):
        if key in record:
            take(record, key, kind, of=where)
    if "id" in record:
        take(record, "id", int, of=where)
    given = [key for key in _MASK_KEYS if record.get(key) is not None]
    if len(given) > 1 or (given and record.get("no_target")):
        raise InputError(f"{where} may have one of {', '.join(_MASK_KEYS)} or no_target, not more.")
    return record


def _referent(
    record: Record, number: int, image_id: int, ids: tuple[int, ...], texts: list[str]
) -> Referent:
    return Referent(
        referent_id=record.get("id", number),
        image_id=image_id,
        file_name=record["image"],
        height=0,
        width=0,
        expression_ids=ids,
        sentences=tuple(text.lower() for text in texts),
        raw_sentences=tuple(texts),
        category=record.get("category", ""),
        annotation_ids=() if record.get("no_target") else (number,),
        is_no_target=record.get("no_target", False),
        group=record.get("group", ""),
    )


def _drawer(record: Record, folder: Path, where: str) -> Draw | None:
    if record.get("no_target"):
        return draw_nothing
    if not any(record.get(key) is not None for key in _MASK_KEYS):
        return None
    return partial(_draw, record, folder, where)


def _draw(
    record: Record, folder: Path, where: str, height: int, width: int
) -> tuple[Rle, tuple[Box, ...]]:
    try:
        if record.get("mask_file") is not None:
            name = take(record, "mask_file", str, of=where)
            refuse_to_leave(name)
            rle = read_mask_file(folder / name, height, width)
        else:
            key = "mask" if record.get("mask") is not None else "polygons"
            rle = draw_segmentation(record[key], height, width)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    box = rle_to_box(rle)
    return rle, (box,) if box else ()
