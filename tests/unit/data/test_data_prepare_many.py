"""GRefCOCO and Ref-ZOM: no target, one, many."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tris.data.index import Referent, open_index
from tris.data.masks import decode_mask
from tris.data.prepare.assemble import Settings, assemble
from tris.data.prepare.grefcoco import read_grefcoco
from tris.data.prepare.refzom import read_refzom
from tris.errors import InputError

LEFT, RIGHT = [0, 0, 2, 0, 2, 4, 0, 4], [4, 0, 6, 0, 6, 4, 4, 4]
NAMES = {42: "COCO_train2014_000000000042.jpg", 43: "COCO_val2014_000000000043.jpg"}


def record(
    ann_id: object, *, split: str = "val", image_id: int = 42, **more: Any
) -> dict[str, Any]:
    sentences = [{"raw": "both dogs", "sent_id": 60, "tokens": ["both", "dogs"]}]
    return {
        "ref_id": 20,
        "image_id": image_id,
        "ann_id": ann_id,
        "split": split,
        "sentences": sentences,
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    annotations = [
        {"id": 11, "image_id": 42, "category_id": 1, "bbox": [0, 0, 2, 4], "segmentation": [LEFT]},
        {"id": 12, "image_id": 42, "category_id": 2, "bbox": [4, 0, 2, 4], "segmentation": [RIGHT]},
        {"id": 13, "image_id": 43, "category_id": 1, "bbox": [0, 0, 2, 4], "segmentation": [LEFT]},
    ]
    instances = {
        "images": [
            {"id": key, "file_name": name, "height": 4, "width": 6} for key, name in NAMES.items()
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "images").mkdir()
    for name in NAMES.values():
        Image.new("RGB", (6, 4)).save(tmp_path / "images" / name)
    return tmp_path


@pytest.fixture
def grefcoco(folder: Path) -> Callable[..., Referent]:
    def prepare(only: dict[str, Any]) -> Referent:
        (folder / "grefs(unc).json").write_text(json.dumps([only]))
        release = read_grefcoco(source=folder)
        out = folder / "index"
        assemble(release, images=folder / "images", out=out, settings=Settings(is_quiet=True))
        return open_index(out, only["split"])[0]

    return prepare


@pytest.fixture
def refzom(folder: Path) -> Callable[..., Referent]:
    def prepare(only: dict[str, Any]) -> Referent:
        (folder / "refs(final).p").write_bytes(pickle.dumps([only]))
        release = read_refzom(source=folder)
        out = folder / "index"
        assemble(release, images=folder / "images", out=out, settings=Settings(is_quiet=True))
        return open_index(out, only["split"])[0]

    return prepare


@pytest.mark.parametrize("ann_id", [-1, [-1], [], None])
def test_grefcoco_knows_no_target_in_every_spelling(
    grefcoco: Callable[..., Referent], ann_id: object
):
    referent = grefcoco(record(ann_id, no_target=True))
    assert referent.is_no_target
    assert (referent.annotation_ids, referent.boxes) == ((), ())
    assert decode_mask(referent.mask).sum() == 0


@pytest.mark.parametrize("ann_id", [11, [11], [11, 11]])
def test_grefcoco_takes_one_object_as_number_or_list(
    grefcoco: Callable[..., Referent], ann_id: object
):
    referent = grefcoco(record(ann_id))
    assert not referent.is_no_target
    assert referent.annotation_ids == (11,)
    assert decode_mask(referent.mask).sum() == 8


def test_grefcoco_unites_several_objects_and_keeps_their_boxes(
    grefcoco: Callable[..., Referent],
):
    referent = grefcoco(record([11, 12]))
    assert referent.annotation_ids == (11, 12)
    assert referent.boxes == ((0.0, 0.0, 2.0, 4.0), (4.0, 0.0, 2.0, 4.0))
    assert decode_mask(referent.mask).sum() == 16
    assert referent.category == "dog, cat"


def test_grefcoco_refuses_no_target_beside_an_object(grefcoco: Callable[..., Referent]):
    with pytest.raises(InputError, match=r"-1 \(no target\) beside real"):
        grefcoco(record([-1, 11]))


def test_grefcoco_is_read_from_a_pickle_as_well(folder: Path):
    (folder / "grefs(unc).p").write_bytes(pickle.dumps([record([11])]))
    assert len(read_grefcoco(source=folder)) == 1


@pytest.mark.parametrize("ann_id", [[], None, -1, 11, [999]])
def test_refzom_never_looks_up_the_objects_of_a_zero_record(
    refzom: Callable[..., Referent], ann_id: object
):
    referent = refzom(record(ann_id, source="zero", split="test"))
    assert referent.is_no_target
    assert decode_mask(referent.mask).sum() == 0


@pytest.mark.parametrize(
    ("more", "area"), [({"source": "one"}, 8), ({}, 8), ({"source": "many"}, 16)]
)
def test_refzom_takes_one_object_or_many(
    refzom: Callable[..., Referent], more: dict[str, str], area: int
):
    ids = [11, 12] if more.get("source") == "many" else 11
    referent = refzom(record(ids, split="test", **more))
    assert not referent.is_no_target
    assert decode_mask(referent.mask).sum() == area


def test_refzom_refuses_a_target_without_object(refzom: Callable[..., Referent]):
    with pytest.raises(InputError, match="only 'zero' may have none"):
        refzom(record([], source="one"))


def test_refzom_finds_a_photograph_of_val2014(refzom: Callable[..., Referent]):
    referent = refzom(record(13, image_id=43, split="test"))
    assert referent.file_name == "COCO_val2014_000000000043.jpg"


def test_a_sentence_without_cleaned_text_is_the_typed_one_in_lower_case(
    refzom: Callable[..., Referent],
):
    sentences = [{"raw": "Both DOGS", "sent_id": 60}]
    assert refzom(record(11, sentences=sentences)).sentences == ("both dogs",)


def test_refzom_is_found_under_its_downloaded_name(folder: Path):
    (folder / "Ref-ZOM(final).p").write_bytes(pickle.dumps([record(11)]))
    assert len(read_refzom(source=folder)) == 1
