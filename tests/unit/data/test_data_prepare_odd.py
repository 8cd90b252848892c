"""Values of the wrong kind anywhere in a release: one sentence, never a traceback."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tris.data.index import open_index
from tris.data.prepare.assemble import Settings, assemble
from tris.data.prepare.custom import read_custom
from tris.data.prepare.d3 import read_d3
from tris.data.prepare.mevis import read_mevis
from tris.data.prepare.phrasecut import read_phrasecut
from tris.data.prepare.refer import read_refer
from tris.data.prepare.release import Release
from tris.errors import InputError

RLE = {"size": [4, 6], "counts": "9220003"}
REFER = {
    "refs(unc).p": [
        {
            "ref_id": 7,
            "ann_id": 501,
            "image_id": 42,
            "split": "val",
            "sentences": [{"raw": "Man", "sent": "man", "sent_id": 70}],
        }
    ],
    "instances.json": {
        "images": [{"id": 42, "file_name": "a.jpg", "height": 4, "width": 6}],
        "annotations": [{"id": 501, "image_id": 42, "category_id": 1, "segmentation": RLE}],
        "categories": [{"id": 1, "name": "person"}],
    },
}
D3 = {
    "images.json": [{"id": 0, "file_name": "a.jpg", "height": 4, "width": 6}],
    "annotations.json": [{"id": 5, "sent_id": [1], "image_id": 0, "segmentation": [RLE]}],
    "sentences.json": [{"id": 1, "is_negative": False, "raw_sent": "dog"}],
    "groups.json": [{"id": 0, "img_id": [0], "inner_sent_id": [1]}],
}
PHRASECUT = {
    "refer_test.json": [
        {
            "task_id": "12__900",
            "image_id": 12,
            "ann_ids": [900],
            "phrase": "dog",
            "Polygons": [[[[1, 1], [4, 1], [4, 3]]]],
            "phrase_structure": {"name": "dog", "type": "name"},
        }
    ],
    "image_data_split.json": [{"image_id": 12, "coco_id": None, "width": 6, "height": 4}],
}
MEVIS = {
    "meta_expressions.json": {
        "videos": {"v": {"frames": ["0"], "expressions": {"0": {"exp": "dog", "anno_id": [10]}}}}
    },
    "mask_dict.json": {"10": [RLE]},
}
READERS: dict[str, tuple[dict[str, Any], Callable[[Path], Release]]] = {
    "refer": (REFER, lambda folder: read_refer(dataset="refcoco", source=folder)),
    "d3": (D3, lambda folder: read_d3(source=folder)),
    "phrasecut": (PHRASECUT, lambda folder: read_phrasecut(source=folder)),
    "mevis": (MEVIS, lambda folder: read_mevis(source=folder)),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything in a release."""
    keys = value if isinstance(value, dict) else range(len(value) if type(value) is list else 0)
    return [path] + [place for key in keys for place in places(value[key], (*path, key))]


def put(content: Any, path: tuple[Any, ...], odd: object) -> Any:
    if not path:
        return odd
    content[path[0]] = put(content[path[0]], path[1:], odd)
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "v").mkdir(parents=True)
    for name in ("a.jpg", "12.jpg", "v/0.jpg"):
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / name)
    return tmp_path


def prepare(folder: Path, files: dict[str, Any], read: Callable[[Path], Release]) -> None:
    for name, content in files.items():
        if name.endswith(".p"):
            (folder / name).write_bytes(pickle.dumps(content))
        else:
            (folder / name).write_text(json.dumps(content))
    settings = Settings(is_quiet=True, skip_bad_images=True)
    out = assemble(read(folder), images=folder / "images", out=folder / "index", settings=settings)
    for split in ("val", "test", "valid_u"):
        if (out / f"{split}.arrow").exists():
            list(open_index(out, split))


ODD = [None, True, 10**30, 1.5, "\ud800", "x/" * 3000, {}, [{}]]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd)[:12])
@pytest.mark.parametrize("name", READERS)
def test_a_value_of_another_kind_is_read_or_refused_in_a_sentence(
    folder: Path, name: str, odd: object
):
    files, read = READERS[name]
    messages: list[str] = []
    for place in places(files)[1:]:
        try:
            prepare(folder, put(copy.deepcopy(files), place, odd), read)
        except InputError as error:
            messages.append(str(error))
    assert messages
    assert not [message for message in messages if len(message) > 400 or "\n" in message]


@pytest.mark.parametrize(
    "line",
    ['{"image": "a.jpg", "expressions": ["a"], "id": 1' + "0" * 5000 + "}", "[" * 100_000],
    ids=["a number of 5000 digits", "100,000 brackets"],
)
def test_json_that_python_cannot_hold_is_named_by_its_line(tmp_path: Path, line: str):
    (tmp_path / "data.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"Line 1 of .* is not valid JSON"):
        read_custom(source=tmp_path / "data.jsonl")
