import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tris.data.index import Index, open_index
from tris.data.index_counts import Counts
from tris.data.masks import decode_mask
from tris.data.prepare.assemble import Settings, assemble
from tris.data.prepare.phrasecut import read_phrasecut
from tris.data.prepare.published import compare_with_published
from tris.errors import InputError

TASK = {
    "task_id": "12__900",
    "image_id": 12,
    "ann_ids": [900, 901],
    "phrase": "White dog on sofa",
    "instance_boxes": [[1, 1, 4, 3]],
    "Polygons": [[[[1.9, 1.9], [3.9, 1.2], [3.1, 2.9], [1, 2]]], [[[5, 0], [5, 3]], [[0, 0]]]],
    "phrase_structure": {"name": "dog", "attributes": ["white"], "type": "attribute"},
}
PHOTOGRAPH = {"image_id": 12, "coco_id": 42, "width": 6, "height": 4, "split": "test"}


def prepare(
    root: Path, task: dict[str, Any], photographs: list[dict[str, Any]] | None = None
) -> Index:
    (root / "image_data_split.json").write_text(json.dumps(photographs or [PHOTOGRAPH]))
    (root / "refer_test.json").write_text(json.dumps([task]))
    (root / "VG_100K_2").mkdir(exist_ok=True)
    Image.new("RGB", (6, 4)).save(root / "VG_100K_2" / "12.jpg")
    release = read_phrasecut(source=root)
    out = assemble(release, images=root, out=root / "index", settings=Settings(is_quiet=True))
    return open_index(out, "test")


def test_polygons_are_drawn_as_pillow_does_with_points_cut_to_integers(tmp_path: Path):
    mask = decode_mask(prepare(tmp_path, TASK)[0].mask)
    drawn = [(row, column) for row in range(4) for column in range(6) if mask[row, column]]
    square = [(row, column) for row in (1, 2) for column in (1, 2, 3)]
    line = [(row, 5) for row in range(4)]
    assert drawn == sorted(square + line)


def test_each_instance_has_a_box(tmp_path: Path):
    assert prepare(tmp_path, TASK)[0].boxes == ((1.0, 1.0, 3.0, 2.0), (5.0, 0.0, 1.0, 4.0))


def test_a_task_keeps_its_name_type_and_coco_id(tmp_path: Path):
    referent = prepare(tmp_path, TASK)[0]
    assert (referent.source_id, referent.image_id, referent.coco_id) == ("12__900", 12, 42)
    assert (referent.expression_types, referent.category) == (("attribute",), "dog")
    assert referent.sentences == ("white dog on sofa",)
    assert referent.file_name == "VG_100K_2/12.jpg"


def test_a_photograph_that_is_none_of_cocos_has_no_coco_id(tmp_path: Path):
    assert prepare(tmp_path, TASK, [{**PHOTOGRAPH, "coco_id": None}])[0].coco_id == 0


def test_several_instances_count_as_several_targets(tmp_path: Path):
    assert prepare(tmp_path, TASK).facts.multi_target == 1


def test_the_missing_part_of_val_can_be_read_as_miniv(tmp_path: Path):
    with pytest.raises(InputError, match=r"refer_miniv\.json"):
        read_phrasecut(source=_files(tmp_path), splits=("val", "miniv"))


@pytest.mark.parametrize(
    ("split", "images", "expressions"), [("val", 2871, 19495), ("miniv", 100, 821)]
)
def test_the_published_counts_of_val_lack_those_of_miniv(split: str, images: int, expressions: int):
    facts = dataclasses.replace(Counts().facts(), images=images, expressions=expressions)
    assert list(compare_with_published("phrasecut", "", {split: facts}, facts)) == []
    other = dataclasses.replace(facts, images=2971)
    (warning,) = compare_with_published("phrasecut", "", {split: other}, other)
    assert f"2,971 images here, {images:,} published" in warning


def _files(root: Path) -> Path:
    (root / "image_data_split.json").write_text(json.dumps([PHOTOGRAPH]))
    (root / "refer_val.json").write_text(json.dumps([TASK]))
    return root


def test_a_photograph_that_the_list_lacks_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="Task '12__900' has a photograph that"):
        prepare(tmp_path, TASK, [{**PHOTOGRAPH, "image_id": 13}])


@pytest.mark.parametrize("polygons", [[[[1, 2, 3]]], [[["ab"]]], [[5]], [5]])
def test_polygons_of_another_nesting_are_refused(tmp_path: Path, polygons: list):
    with pytest.raises(InputError, match="Task '12__900'"):
        prepare(tmp_path, {**TASK, "Polygons": polygons})


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "image_data_split.json").write_text("{}")
    (tmp_path / "refer_test.json").write_text("{}")
    with pytest.raises(InputError, match="is it PhraseCut's"):
        read_phrasecut(source=tmp_path)
