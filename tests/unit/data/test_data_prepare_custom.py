import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tris.data.index import Index, open_index
from tris.data.masks import decode_mask
from tris.data.prepare.assemble import Settings, assemble
from tris.data.prepare.custom import read_custom
from tris.errors import InputError

SQUARE = [2, 1, 5, 1, 5, 3, 2, 3]


def prepare(root: Path, *lines: dict[str, Any] | str, split: str = "train") -> Index:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (root / "data.jsonl").write_text(text, encoding="utf-8")
    (root / "images").mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (6, 4)).save(root / "images" / name)
    out = assemble(
        read_custom(source=root / "data.jsonl"),
        images=root / "images",
        out=root / "index",
        settings=Settings(is_quiet=True),
    )
    return open_index(out, split)


def test_two_keys_are_enough(tmp_path: Path):
    index = prepare(tmp_path, {"image": "a.jpg", "expressions": ["Left Cat", "the cat"]})
    assert index[0].sentences == ("left cat", "the cat")
    assert index[0].raw_sentences == ("Left Cat", "the cat")
    assert (index[0].height, index[0].width) == (4, 6)
    assert not index.has_masks


@pytest.mark.parametrize(
    "mask",
    [
        {"mask": {"size": [4, 6], "counts": "9220003"}},
        {"mask": {"size": [4, 6], "counts": [9, 2, 2, 2, 2, 2, 5]}},
        {"polygons": [SQUARE]},
        {"mask_file": "masks/a.png"},
    ],
    ids=["rle text", "rle runs", "polygons", "file"],
)
def test_a_mask_comes_in_four_forms(tmp_path: Path, mask: dict[str, Any]):
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((4, 6), np.uint8)
    pixels[1:3, 2:5] = 255
    Image.fromarray(pixels).save(tmp_path / "masks" / "a.png")
    index = prepare(tmp_path, {"image": "a.jpg", "expressions": ["cat"], **mask})
    assert (decode_mask(index[0].mask) == pixels // 255).all()
    assert index[0].boxes == ((2.0, 1.0, 3.0, 2.0),)
    assert index.has_masks


def test_no_target_has_an_empty_mask(tmp_path: Path):
    index = prepare(tmp_path, {"image": "a.jpg", "expressions": ["a bus"], "no_target": True})
    assert index[0].is_no_target
    assert decode_mask(index[0].mask).sum() == 0


EMPTY = "1 referents have an empty mask although they name an object."


@pytest.mark.parametrize(
    ("mask", "warnings"),
    [
        ({"mask_file": "dim.png"}, [EMPTY]),
        ({"mask": {"size": [4, 6], "counts": [24]}}, [EMPTY]),
        ({"polygons": [SQUARE]}, []),
        ({"no_target": True}, []),
        ({}, []),
    ],
    ids=["dim grey", "empty rle", "polygons", "no target", "no mask"],
)
def test_an_empty_mask_of_something_is_warned_of(
    tmp_path: Path, mask: dict[str, Any], warnings: list[str]
):
    pixels = np.zeros((4, 6), np.uint8)
    pixels[1:3, 2:5] = 100
    Image.fromarray(pixels).save(tmp_path / "dim.png")
    index = prepare(tmp_path, {"image": "a.jpg", "expressions": ["cat"], **mask})
    assert index.manifest.warnings == warnings


def test_splits_groups_categories_and_ids_are_kept(tmp_path: Path):
    line = {"image": "a.jpg", "expressions": ["cat"], "split": "val", "group": "g", "id": 77}
    referent = prepare(tmp_path, {**line, "category": "cat"}, split="val")[0]
    assert (referent.group, referent.category, referent.referent_id) == ("g", "cat", 77)


def test_lines_about_one_photograph_share_its_id(tmp_path: Path):
    lines = [{"image": name, "expressions": ["x"]} for name in ("a.jpg", "b.jpg", "a.jpg")]
    index = prepare(tmp_path, *lines)
    assert [each.image_id for each in index] == [1, 2, 1]
    assert [each.expression_ids for each in index] == [(1,), (2,), (3,)]


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path):
    index = prepare(tmp_path, '\ufeff{"image": "a.jpg", "expressions": ["قطة"]}', "", "  ")
    assert index[0].sentences == ("قطة",)


def test_empty_expressions_are_left_out_and_listed(tmp_path: Path):
    index = prepare(tmp_path, {"image": "a.jpg", "expressions": ["", "cat"]})
    assert index[0].sentences == ("cat",)
    assert "1 empty expressions" in index.manifest.left_out[0]


GOOD: dict[str, Any] = {"image": "a.jpg", "expressions": ["cat"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Line 2 of .* is not valid JSON"),
        ("[1]", "Line 2 of .* should be an object"),
        ({"expressions": ["x"]}, "Line 2 of .* has no 'image'"),
        ({"image": "a.jpg"}, "Line 2 of .* has no 'expressions'"),
        ({"image": "a.jpg", "expressions": "cat"}, "list as 'expressions'"),
        ({"image": "a.jpg", "expressions": []}, "list of sentences"),
        ({"image": "a.jpg", "expressions": [5]}, "list of sentences"),
        ({**GOOD, "maks": None}, r"unknown keys \['maks'\]; known are"),
        ({**GOOD, "split": 5}, "str as 'split'"),
        ({**GOOD, "id": "x"}, "int as 'id'"),
        ({**GOOD, "image": "../a.jpg"}, "leaves its folder"),
        ({**GOOD, "mask_file": "../../etc/passwd"}, "leaves its folder"),
        ({**GOOD, "mask_file": "nothing.png"}, r"nothing\.png cannot be read"),
        ({**GOOD, "no_target": True, "polygons": [SQUARE]}, "may have one of"),
        ({**GOOD, "mask": {"size": [4, 6], "counts": "?"}}, "Line 2 of .*RLE"),
        ({**GOOD, "mask": {"size": [5, 6], "counts": [30]}}, r"Line 2 of .*size \[5, 6\]"),
        ({**GOOD, "polygons": [["a"] * 6]}, "Line 2 of .*polygon"),
        ({**GOOD, "image": "none.jpg"}, r"none\.jpg cannot be used: it is missing"),
        ({**GOOD, "id": 1}, "Ref 1 comes twice"),
    ],
)
def test_a_bad_line_is_named_with_its_number_or_file(
    tmp_path: Path, line: dict[str, Any] | str, message: str
):
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, GOOD, line)


def test_text_that_is_not_utf_8_is_named(tmp_path: Path):
    (tmp_path / "data.jsonl").write_bytes(
        '{"image": "a.jpg", "expressions": ["é"]}'.encode("latin1")
    )
    with pytest.raises(InputError, match="no UTF-8"):
        read_custom(source=tmp_path)


def test_a_folder_with_one_file_is_enough(tmp_path: Path):
    (tmp_path / "data.jsonl").write_text(json.dumps(GOOD))
    assert len(read_custom(source=tmp_path)) == 1


@pytest.mark.parametrize("names", [(), ("a.jsonl", "b.jsonl")])
def test_a_folder_with_no_or_several_files_is_refused(tmp_path: Path, names: tuple[str, ...]):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"holds {len(names)} .jsonl files"):
        read_custom(source=tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no file"):
        read_custom(source=tmp_path / "data.jsonl")
