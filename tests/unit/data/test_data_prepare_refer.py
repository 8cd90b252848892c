import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tris.data.index import Index, open_index
from tris.data.masks import decode_mask, encode_mask
from tris.data.prepare.assemble import Settings
from tris.data.prepare.refer import prepare_refer
from tris.errors import InputError

HEIGHT, WIDTH = 8, 10
SQUARE = [2, 1, 5, 1, 5, 3, 2, 3]
"""Rows 1 and 2, columns 2 to 4."""

Change = Callable[[list[dict[str, Any]], dict[str, Any]], None]


def sentence(sent_id: int, raw: str = "Man LEFT", **changes: Any) -> dict[str, Any]:
    text = raw.lower()
    return {"raw": raw, "sent": text, "sent_id": sent_id, "tokens": text.split(), **changes}


def make_files() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two photographs, three referents: train, val, and testAB."""
    refs = [
        {
            "ref_id": 7 + number,
            "ann_id": 501 + number,
            "category_id": 1,
            "image_id": 42 + number // 2,
            "split": split,
            "sent_ids": [70 + 10 * number, 71 + 10 * number],
            "file_name": f"COCO_train2014_{42 + number // 2:012}_{number}.jpg",
            "sentences": [sentence(70 + 10 * number), sentence(71 + 10 * number, "guy")],
        }
        for number, split in enumerate(["train", "val", "testAB"])
    ]
    instances = {
        "images": [
            {"id": key, "file_name": f"COCO_train2014_{key:012}.jpg", "height": 8, "width": 10}
            for key in (42, 43)
        ],
        "annotations": [
            {
                "id": 501 + number,
                "image_id": 42 + number // 2,
                "category_id": 1,
                "iscrowd": 0,
                "area": 6.0,
                "bbox": [2.0, 1.0, 3.0, 2.0],
                "segmentation": [SQUARE],
            }
            for number in range(4)
        ],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
    }
    return refs, instances


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Path]:
    """Write the files, changed as a test wants, and prepare them."""

    def write_and_prepare(
        change: Change | None = None,
        *,
        dataset: str = "refcoco",
        split_by: str = "unc",
        settings: Settings | None = None,
        **options: Any,
    ) -> Path:
        refs, instances = make_files()
        if change is not None:
            change(refs, instances)
        source, images = tmp_path / "source" / dataset, tmp_path / "images"
        source.mkdir(parents=True, exist_ok=True)
        images.mkdir(exist_ok=True)
        (source / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=2))
        (source / "instances.json").write_text(json.dumps(instances, default=bytes.decode))
        for image in make_files()[1]["images"]:
            if not (images / image["file_name"]).exists():
                Image.new("RGB", (WIDTH, HEIGHT)).save(images / image["file_name"])
        return prepare_refer(
            dataset=dataset,
            source=tmp_path / "source",
            images=images,
            out=tmp_path / "index",
            split_by=split_by,
            settings=settings or Settings(is_quiet=True),
            **options,
        )

    return write_and_prepare


def edit_ref(**changes: Any) -> Change:
    return lambda refs, _: refs[0].update(changes)


def edit_sentence(**changes: Any) -> Change:
    return lambda refs, _: refs[0]["sentences"][0].update(changes)


def edit_annotation(**changes: Any) -> Change:
    return lambda _, instances: instances["annotations"][0].update(changes)


def train(out: Path) -> Index:
    return open_index(out, "train")


def test_a_record_becomes_a_referent(prepare: Callable[..., Path]):
    referent = train(prepare())[0]
    assert (referent.referent_id, referent.image_id, referent.annotation_ids) == (7, 42, (501,))
    assert referent.sentences == ("man left", "guy")
    assert referent.raw_sentences == ("Man LEFT", "guy")
    assert referent.expression_ids == (70, 71)
    assert (referent.category, referent.coco_id) == ("person", 42)
    assert (referent.height, referent.width) == (HEIGHT, WIDTH)
    assert referent.boxes == ((2.0, 1.0, 3.0, 2.0),)
    mask = decode_mask(referent.mask)
    assert mask[1:3, 2:5].all()
    assert mask.sum() == 6


def test_the_file_name_is_that_of_instances_without_the_records_suffix(
    prepare: Callable[..., Path],
):
    index = train(prepare())
    assert index[0].file_name == "COCO_train2014_000000000042.jpg"
    assert index.image_path(index[0]).is_file()


def test_a_joint_test_split_lies_in_both(prepare: Callable[..., Path]):
    out = prepare()
    assert open_index(out, "testA")[0] == open_index(out, "testB")[0]
    assert open_index(out, "testA")[0].referent_id == 9


def test_types_of_sentences_are_kept(prepare: Callable[..., Path]):
    referent = train(prepare(edit_sentence(type="place")))[0]
    assert referent.expression_types == ("place", "")


def test_overlapping_polygons_are_a_union_unless_the_quirk_is_asked_for(
    prepare: Callable[..., Path],
):
    squares = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]]
    change = edit_annotation(segmentation=squares)
    right = decode_mask(train(prepare(change))[0].mask)
    quirk = decode_mask(train(prepare(change, overlapping_polygons="refer-quirk"))[0].mask)
    assert (right[3, 3], quirk[3, 3]) == (1, 0)
    assert (right.sum(), quirk.sum()) == (28, 24)


RLE = {"size": [8, 10], "counts": [17, 2, 6, 2, 53]}


@pytest.mark.parametrize(
    "segmentation", [RLE, [RLE], [RLE, encode_mask(np.eye(8, 10, dtype=np.uint8))]]
)
def test_an_rle_or_a_list_of_them_is_read(prepare: Callable[..., Path], segmentation: object):
    referent = train(prepare(edit_annotation(segmentation=segmentation)))[0]
    assert decode_mask(referent.mask)[1:3, 2:4].all()


def test_refclef_is_read_with_its_folders(prepare: Callable[..., Path], tmp_path: Path):
    def change(refs: list[dict[str, Any]], instances: dict[str, Any]) -> None:
        instances["images"][0]["file_name"] = "25/images/25464.jpg"
        instances["annotations"][0].update(segmentation=[RLE])
        del instances["annotations"][0]["bbox"]

    folder = tmp_path / "images" / "saiapr_tc-12" / "25" / "images"
    folder.mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "25464.jpg")
    referent = train(prepare(change, dataset="refclef"))[0]
    assert referent.file_name == "saiapr_tc-12/25/images/25464.jpg"
    assert referent.boxes == ((2.0, 1.0, 2.0, 2.0),)
    assert referent.coco_id == 0


def test_text_only_training_writes_no_polygon_box_or_rle(prepare: Callable[..., Path]):
    def change(refs: list[dict[str, Any]], instances: dict[str, Any]) -> None:
        instances["annotations"][0].update(
            segmentation=[[1.25, 0.5, 7.75, 0.5, 7.75, 6.5]], bbox=[1.25, 0.5, 6.5, 6.0]
        )

    def written(out: Path) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(out.iterdir()))

    with_masks = prepare(change)
    secrets = [str(train(with_masks)[0].mask["counts"]).encode()]
    secrets += [struct.pack("<d", value) for value in (1.25, 6.5)]
    assert all(secret in written(with_masks) for secret in secrets)

    out = prepare(change, keep_training_masks=False)
    assert not any(secret in written(out) for secret in secrets)
    assert b"7.75" not in written(out)
    assert (train(out)[0].mask, train(out)[0].boxes) == (None, ())
    assert train(out).facts.masks_left_out
    assert open_index(out, "val")[0].mask is not None


def test_text_only_training_does_not_even_look_at_its_polygons(prepare: Callable[..., Path]):
    out = prepare(edit_annotation(segmentation="nonsense"), keep_training_masks=False)
    assert train(out)[0].sentences == ("man left", "guy")


@pytest.mark.parametrize(
    ("polygon", "area"),
    [
        ([-5, -5, 2, -5, 2, 2, -5, 2], 4),
        ([-50, -50, 100, -50, 100, 100, -50, 100], HEIGHT * WIDTH),
    ],
)
def test_a_polygon_beyond_the_image_is_clipped(
    prepare: Callable[..., Path], polygon: list, area: int
):
    referent = train(prepare(edit_annotation(segmentation=[polygon])))[0]
    assert decode_mask(referent.mask).sum() == area


def test_a_polygon_outside_the_image_gives_an_empty_mask_and_a_warning(
    prepare: Callable[..., Path],
):
    index = train(prepare(edit_annotation(segmentation=[[50, 50, 60, 50, 60, 60]])))
    assert decode_mask(index[0].mask).sum() == 0
    assert "1 referents have an empty mask although they name an object." in index.manifest.warnings


def test_polygons_that_are_no_area_are_skipped_with_a_warning(prepare: Callable[..., Path]):
    parts = [SQUARE, [1, 1, 4, 4], [0, 0, 1, 1, 2]]
    index = train(prepare(edit_annotation(segmentation=parts)))
    assert decode_mask(index[0].mask).sum() == 6
    assert "1 polygons with fewer than three points were skipped." in index.manifest.warnings


def test_a_record_without_sentences_is_left_out_and_listed(prepare: Callable[..., Path]):
    def change(refs: list[dict[str, Any]], instances: dict[str, Any]) -> None:
        refs.append({**refs[0], "ref_id": 99, "sentences": [], "sent_ids": []})

    index = train(prepare(change))
    assert len(index) == 1
    assert index.manifest.left_out == ["Ref 99: it has no sentence"]


@pytest.mark.parametrize("text", ["", "  \t\n", "\0"])
def test_an_empty_sentence_is_left_out_and_listed(prepare: Callable[..., Path], text: str):
    index = train(prepare(edit_sentence(sent=text, raw=text)))
    assert index[0].expression_ids == (71,)
    assert index.manifest.left_out == ["sentence 70 of Ref 7: it is empty"]


def test_an_empty_cleaned_sentence_falls_back_to_the_typed_one(prepare: Callable[..., Path]):
    assert train(prepare(edit_sentence(sent="", raw="LEFT!")))[0].sentences[0] == "left!"


@pytest.mark.parametrize(
    "text",
    [
        "word " * 499 + "word",
        "the 🐈‍⬛ on the 🛋️",
        "הכלב משמאל",
        "القطة على اليسار",
        "naïve \u202eabc",
    ],
    ids=["500 words", "emoji", "hebrew", "arabic", "override mark"],
)
def test_long_and_foreign_text_is_kept_letter_by_letter(prepare: Callable[..., Path], text: str):
    referent = train(prepare(edit_sentence(sent=text, raw=text)))[0]
    assert (referent.sentences[0], referent.raw_sentences[0]) == (text, text)


def test_line_breaks_become_spaces(prepare: Callable[..., Path]):
    assert train(prepare(edit_sentence(sent="left\r\n man\t")))[0].sentences[0] == "left man"


def test_half_a_character_is_replaced(prepare: Callable[..., Path]):
    assert train(prepare(edit_sentence(sent="cat \ud83d")))[0].sentences[0] == "cat \ufffd"


def twice(refs: list[dict[str, Any]], instances: dict[str, Any]) -> None:
    refs[1].update(ref_id=7)
    refs[1]["sentences"][0].update(sent_id=70)


def test_a_duplicate_ref_id_is_refused(prepare: Callable[..., Path]):
    with pytest.raises(InputError, match="Ref 7 comes twice"):
        prepare(lambda refs, _: refs[1].update(ref_id=7))


def test_a_duplicate_sentence_id_is_refused(prepare: Callable[..., Path]):
    with pytest.raises(InputError, match="Sentence 70 of Ref 8 comes twice"):
        prepare(lambda refs, _: refs[1]["sentences"][0].update(sent_id=70))


def test_duplicate_ids_are_renumbered_on_request(prepare: Callable[..., Path]):
    out = prepare(twice, settings=Settings(duplicate_ids="renumber", is_quiet=True))
    renumbered = open_index(out, "val")[0]
    assert train(out)[0].referent_id == 7
    assert renumbered.referent_id > 10**12
    assert renumbered.expression_ids[0] > 10**12
    assert "2 ids came twice and were renumbered." in train(out).manifest.warnings


def test_a_duplicate_annotation_that_differs_is_refused(prepare: Callable[..., Path]):
    def change(refs: list[dict[str, Any]], instances: dict[str, Any]) -> None:
        instances["annotations"].append({**instances["annotations"][0], "area": 9.0})

    with pytest.raises(InputError, match="two different annotations with id 501"):
        prepare(change)


def test_a_duplicate_annotation_that_is_equal_is_read_once(prepare: Callable[..., Path]):
    def change(refs: list[dict[str, Any]], instances: dict[str, Any]) -> None:
        instances["annotations"].append(dict(instances["annotations"][0]))

    assert len(train(prepare(change))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_ref(ann_id=999), "Ref 7 is about annotation 999"),
        (edit_ref(image_id=999), "Ref 7 is about image 999"),
        (edit_ref(image_id=43), "its annotation 501 about image 42"),
        (edit_annotation(image_id=999), "its annotation 501 about image 999"),
        (edit_ref(ann_id=[501, 502]), "is this gRefCOCO or Ref-ZOM"),
        (edit_ref(ann_id="501"), "integers as 'ann_id'"),
        (edit_ref(sentences="left"), "list as 'sentences'"),
        (edit_ref(sentences=["left"]), "list of dict as 'sentences'"),
        (edit_ref(split=1), "str as 'split'"),
        (edit_ref(ref_id=None), "int as 'ref_id'"),
        (lambda refs, _: refs[0].pop("image_id"), "no 'image_id'"),
        (edit_sentence(sent_id="70"), "int as 'sent_id'"),
        (edit_sentence(sent=5), "text as 'sent'"),
        (edit_annotation(segmentation=5), "Annotation 501 of Ref 7: a segmentation"),
        (edit_annotation(segmentation=[["a"] * 6]), "flat list of numbers"),
        (edit_annotation(segmentation={"size": [9, 10], "counts": [90]}), "RLE has size"),
        (edit_annotation(segmentation={"size": [8, 10], "counts": "??"}), "RLE"),
        (edit_annotation(bbox=[1, 2, 3]), "bbox must be"),
        (edit_annotation(bbox=[1, 2, 3, float("nan")]), "no numbers"),
        (lambda _, instances: instances.pop("annotations"), "is it COCO's instances.json"),
        (lambda _, instances: instances.update(annotations=5), "list of annotations"),
        (lambda _, instances: instances["images"][0].pop("height"), "no 'height'"),
        (
            lambda _, instances: instances["images"][0].update(file_name="../../secret.jpg"),
            "leaves its folder",
        ),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(
    prepare: Callable[..., Path], tmp_path: Path, change: Change, message: str
):
    with pytest.raises(InputError, match=message):
        prepare(change)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "source"]


def test_a_bad_photograph_stops_with_its_name(prepare: Callable[..., Path], tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "COCO_train2014_000000000042.jpg").touch()
    with pytest.raises(InputError, match=r"0042\.jpg cannot be used: it is empty"):
        prepare()


def test_bad_photographs_are_skipped_on_request_and_listed(
    prepare: Callable[..., Path], tmp_path: Path
):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "COCO_train2014_000000000042.jpg").touch()
    out = prepare(settings=Settings(skip_bad_images=True, is_quiet=True))
    manifest = open_index(out, "testA").manifest
    assert list(manifest.splits) == ["testA", "testB"]
    assert manifest.skipped_images == {"COCO_train2014_000000000042.jpg": "it is empty"}
    assert manifest.left_out == [
        "Ref 7: its photograph was skipped",
        "Ref 8: its photograph was skipped",
    ]


def test_counts_that_differ_from_the_papers_are_named_with_both_numbers(
    prepare: Callable[..., Path],
):
    warnings = train(prepare()).manifest.warnings
    assert any("142,209 published (TRIS, section 4.1)" in each for each in warnings)
    assert any("train: 1 referents here, 42,404 published" in each for each in warnings)


def test_the_leak_of_coco_is_named(prepare: Callable[..., Path]):
    assert any("COCO train2014" in each for each in train(prepare()).manifest.warnings)


def test_googles_repeated_photographs_are_named(prepare: Callable[..., Path]):
    warnings = train(prepare(split_by="google")).manifest.warnings
    assert any("part objects, not photographs" in each for each in warnings)


def test_overlap_with_another_index_is_listed_in_both_directions(
    prepare: Callable[..., Path], tmp_path: Path
):
    other = prepare().rename(tmp_path / "other")
    (tmp_path / "index").mkdir()
    index = train(prepare(settings=Settings(check_overlap=(other,), is_quiet=True)))
    assert index.manifest.overlaps == {
        f"train and the held-out splits of {other}": ["42"],
        f"val and the training split of {other}": ["42"],
        f"testA and the training split of {other}": [],
        f"testB and the training split of {other}": [],
    }
    assert any("1 photographs in common" in each for each in index.manifest.warnings)


def test_a_missing_file_is_answered_with_what_is_there(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no refs\(unc\)\.p, but notes\.txt"):
        prepare_refer(dataset="refcoco", source=tmp_path, images=tmp_path, out=tmp_path / "i")


@pytest.mark.parametrize(
    ("dataset", "split_by", "message"),
    [("refcoco", "umd", "choose unc or google"), ("coco", None, "none of refcoco")],
)
def test_unknown_names_are_answered_with_the_known_ones(
    tmp_path: Path, dataset: str, split_by: str | None, message: str
):
    with pytest.raises(InputError, match=message):
        prepare_refer(
            dataset=dataset, source=tmp_path, images=tmp_path, out=tmp_path, split_by=split_by
        )
