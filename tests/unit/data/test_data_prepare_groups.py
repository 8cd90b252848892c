"""D3 and GRD, groups of sentences, co-saliency, MeViS: many photographs for one sentence."""

import json
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tris.cli.prepare import main
from tris.data.index import Index, Referent, open_index
from tris.data.masks import decode_mask, encode_mask
from tris.data.prepare.assemble import Settings, assemble
from tris.data.prepare.coca import category_sentence, read_coca
from tris.data.prepare.d3 import read_d3
from tris.data.prepare.grouped import read_grouped
from tris.data.prepare.mevis import read_mevis
from tris.data.prepare.release import Release
from tris.errors import InputError

RLE = {"size": [4, 6], "counts": b"9220003"}
QUIET = Settings(is_quiet=True)


def prepare(release: Release, images: Path, out: Path) -> Path:
    return assemble(release, images=images, out=out, settings=QUIET)


def photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(path)


@pytest.fixture
def d3(tmp_path: Path) -> Path:
    """One group of two photographs; a sentence of presence, with an object in the first, and one
    of absence; a second group, whose sentence is not put to the first.
    """
    tables: dict[str, dict[int, dict[str, Any]]] = {
        "sentences": {
            1: {"id": 1, "anno_id": [5], "is_negative": False, "raw_sent": "Dog on leash"},
            2: {"id": 2, "anno_id": [], "is_negative": True, "raw_sent": "dog without leash"},
            3: {"id": 3, "anno_id": [], "is_negative": False, "raw_sent": "kite"},
        },
        "annotations": {
            5: {
                "id": 5,
                "sent_id": [1],
                "image_id": 0,
                "area": np.array([6]),
                "bbox": np.array([[2, 1, 3, 2]]),
                "segmentation": [RLE],
            }
        },
        "images": {
            key: {"id": key, "file_name": f"g0/{key}.jpg", "height": 4, "width": 6}
            for key in range(3)
        },
        "groups": {
            0: {"id": 0, "img_id": [0, 1], "inner_sent_id": [1, 2], "group_name": "leash"},
            1: {"id": 1, "img_id": [2], "inner_sent_id": [3], "group_name": "sky"},
        },
    }
    for name, table in tables.items():
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(table))
        for key in range(3):
            photograph(tmp_path / "images" / "g0" / f"{key}.jpg")
    return tmp_path


def test_grd_puts_sentences_of_presence_to_their_own_group(d3: Path):
    out = prepare(read_d3(source=d3, dataset="grd"), d3 / "images", d3 / "index")
    rows = [(each.group, each.sentences, each.image_id) for each in open_index(out, "test")]
    assert rows == [
        ("leash/1", ("dog on leash",), 0),
        ("leash/1", ("dog on leash",), 1),
        ("sky/3", ("kite",), 2),
    ]


def test_d3_adds_sentences_of_absence(d3: Path):
    out = prepare(read_d3(source=d3, dataset="d3"), d3 / "images", d3 / "index")
    index = open_index(out, "test")
    assert len(index) == 5
    assert [each.expression_types[0] for each in index].count("absence") == 2


def test_d3_takes_rle_in_bytes_and_boxes_in_arrays(d3: Path):
    out = prepare(read_d3(source=d3), d3 / "images", d3 / "index")
    first, second = open_index(out, "test")[0], open_index(out, "test")[1]
    assert decode_mask(first.mask).sum() == 6
    assert first.boxes == ((2.0, 1.0, 3.0, 2.0),)
    assert second.is_no_target
    assert decode_mask(second.mask).sum() == 0


def test_d3_sentence_and_photograph_can_be_read_off_the_expression_id(d3: Path):
    out = prepare(read_d3(source=d3), d3 / "images", d3 / "index")
    assert [each.expression_ids[0] for each in open_index(out, "test")] == [
        1_000_000,
        1_000_001,
        3_000_002,
    ]


def test_d3_groups_that_name_missing_photographs_are_refused(d3: Path):
    groups = {0: {"id": 0, "img_id": [77], "inner_sent_id": [1]}}
    (d3 / "groups.pkl").write_bytes(pickle.dumps(groups))
    with pytest.raises(InputError, match="Group 0 names image 77"):
        read_d3(source=d3)


def test_d3_tables_of_another_kind_are_refused(d3: Path):
    (d3 / "groups.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="records by id"):
        read_d3(source=d3)


@pytest.fixture
def refcoco(tmp_path: Path) -> Path:
    """Ten photographs: "man" in 0 to 2, "dog" in 3 to 6, a sentence of its own in 7 to 9."""
    sentences = ["man"] * 3 + ["dog"] * 4 + ["kite", "bus", "cup"]
    refs = [
        {
            "ref_id": key,
            "ann_id": key,
            "image_id": key,
            "split": "train",
            "sentences": [{"sent": text, "raw": text, "sent_id": key}],
        }
        for key, text in enumerate(sentences)
    ]
    instances = {
        "images": [
            {"id": key, "file_name": f"{key}.jpg", "height": 4, "width": 6} for key in range(10)
        ],
        "annotations": [
            {
                "id": key,
                "image_id": key,
                "category_id": 1,
                "segmentation": [[0, 0, 2, 0, 2, 4, 0, 4]],
            }
            for key in range(10)
        ],
    }
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs))
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    for key in range(10):
        photograph(tmp_path / "images" / f"{key}.jpg")
    return tmp_path


def by_group(index: Index) -> dict[str, list[Referent]]:
    groups = defaultdict(list)
    for referent in index:
        groups[referent.group].append(referent)
    return dict(groups)


def grouped(refcoco: Path, **options: Any) -> Index:
    release = read_grouped(dataset="g-refc", source=refcoco, **options)
    return open_index(prepare(release, refcoco / "images", refcoco / "index"), "train")


def test_a_repeated_sentence_gets_as_many_negatives_from_other_groups(refcoco: Path):
    groups = by_group(grouped(refcoco))
    assert set(groups) == {"man", "dog"}
    man = groups["man"]
    assert [each.image_id for each in man if not each.is_no_target] == [0, 1, 2]
    negatives = [each.image_id for each in man if each.is_no_target]
    assert len(set(negatives)) == 3
    assert set(negatives) <= {3, 4, 5, 6}
    assert all(decode_mask(each.mask).sum() == 0 for each in man if each.is_no_target)


def test_groups_are_the_same_for_the_same_seed_only(refcoco: Path):
    first = [each.image_id for each in grouped(refcoco, seed=1)]
    again = [each.image_id for each in grouped(refcoco, seed=1)]
    others = [[each.image_id for each in grouped(refcoco, seed=seed)] for seed in range(2, 6)]
    assert first == again
    assert any(other != first for other in others)


def test_too_small_a_split_gives_fewer_negatives_and_a_warning(refcoco: Path):
    index = grouped(refcoco)
    negatives = [each for each in by_group(index)["dog"] if each.is_no_target]
    assert len(negatives) == 3
    assert any("fewer negatives than positives" in each for each in index.manifest.warnings)


def test_groups_can_be_made_of_positives_alone(refcoco: Path):
    index = grouped(refcoco, with_negatives=False)
    assert not any(each.is_no_target for each in index)
    assert len(index) == 7


def test_photographs_of_no_group_are_not_looked_at(refcoco: Path):
    for name in ("7.jpg", "8.jpg"):
        (refcoco / "images" / name).write_bytes(b"torn")
    assert len(grouped(refcoco)) == 13
    (refcoco / "images" / "3.jpg").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"photograph 3\.jpg cannot be used"):
        grouped(refcoco)


def test_groups_know_what_they_were_built_from(refcoco: Path):
    manifest = grouped(refcoco, seed=5).manifest
    assert (manifest.dataset, manifest.split_by) == ("g-refc", "unc")
    assert manifest.options["seed"] == "5"
    assert any("2 groups here, 8,717 published" in each for each in manifest.warnings)


def coca(root: Path) -> Path:
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5], mask[0, 0], mask[0, 1] = 255, 127, 128
    for folder, stem in (("Teddy_Bear_2", "b"), ("Teddy_Bear_2", "a"), ("Axe", "b")):
        photograph(root / "image" / folder / f"{stem}.jpg")
        (root / "binary" / folder.lower()).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "binary" / folder.lower() / f"{stem}.png")
    (root / "image" / "Axe" / ".hidden.jpg").touch()
    (root / "image" / "Axe" / "Thumbs.db").touch()
    return root


def test_coca_pairs_by_category_and_stem_whatever_the_case(tmp_path: Path):
    root = coca(tmp_path)
    images = root / "image"
    index = open_index(
        prepare(read_coca(source=root, images=images), images, root / "index"), "test"
    )
    assert [each.source_id for each in index] == ["Axe/b", "Teddy_Bear_2/a", "Teddy_Bear_2/b"]
    assert index[1].sentences == ("teddy bear",)
    assert index[1].group == "Teddy_Bear_2"


def test_coca_cuts_grey_edges_above_127(tmp_path: Path):
    root = coca(tmp_path)
    images = root / "image"
    out = prepare(read_coca(source=root, images=images), images, root / "index")
    mask = decode_mask(open_index(out, "test")[0].mask)
    assert (mask[0, 0], mask[0, 1]) == (0, 1)
    assert mask.sum() == 7


def test_coca_without_a_mask_names_the_photograph(tmp_path: Path):
    root = coca(tmp_path)
    (root / "binary" / "axe" / "b.png").unlink()
    with pytest.raises(InputError, match=r"Axe/b\.jpg has no mask"):
        read_coca(source=root, images=root / "image")


def test_coca_refuses_a_mask_of_another_size(tmp_path: Path):
    root = coca(tmp_path)
    Image.new("L", (5, 4)).save(root / "binary" / "axe" / "b.png")
    images = root / "image"
    with pytest.raises(InputError, match="5 x 4 pixels, its photograph 6 x 4"):
        prepare(read_coca(source=root, images=images), images, root / "index")


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [("Accordion", "accordion"), ("Teddy_Bear_2", "teddy bear"), ("aeroplane", "aeroplane")],
)
def test_a_category_folder_becomes_words(folder: str, sentence: str):
    assert category_sentence(folder) == sentence


@pytest.fixture
def mevis(tmp_path: Path) -> Path:
    folder = tmp_path / "valid_u"
    meta = {
        "videos": {
            "v1": {
                "frames": ["00001", "00000"],
                "expressions": {
                    "0": {"exp": "Bird flying off", "obj_id": [1], "anno_id": [10]},
                    "1": {"exp": "both birds", "obj_id": [1, 2], "anno_id": [10, 11]},
                },
            }
        }
    }
    other = encode_mask(np.eye(4, 6, dtype=np.uint8))
    masks = {"10": [{"size": [4, 6], "counts": "9220003"}, None], "11": [other, None]}
    for frame in ("00000", "00001"):
        photograph(folder / "JPEGImages" / "v1" / f"{frame}.jpg")
    (folder / "meta_expressions.json").write_text(json.dumps(meta))
    (folder / "mask_dict.json").write_text(json.dumps(masks))
    return tmp_path


def test_mevis_makes_a_row_per_sentence_and_frame_in_frame_order(mevis: Path):
    images = mevis / "valid_u" / "JPEGImages"
    index = open_index(prepare(read_mevis(source=mevis), images, mevis / "index"), "valid_u")
    assert [each.source_id for each in index] == [
        "v1/0/00000",
        "v1/0/00001",
        "v1/1/00000",
        "v1/1/00001",
    ]
    assert [decode_mask(each.mask).sum() for each in index] == [6, 0, 9, 0]
    assert [each.is_no_target for each in index] == [False, True, False, True]
    assert index[2].annotation_ids == (10, 11)
    assert (index[0].group, index[0].sentences) == ("v1/0", ("bird flying off",))
    assert index[0].image_id == index[2].image_id


def without_objects(folder: Path) -> None:
    """Take away what says which objects the sentences mean."""
    meta = json.loads((folder / "meta_expressions.json").read_text())
    for sentence in meta["videos"]["v1"]["expressions"].values():
        del sentence["obj_id"], sentence["anno_id"]
    (folder / "meta_expressions.json").write_text(json.dumps(meta))


def test_mevis_has_no_masks_in_valid(mevis: Path):
    folder = (mevis / "valid_u").rename(mevis / "valid")
    (folder / "mask_dict.json").unlink()
    without_objects(folder)
    release = read_mevis(source=mevis, split="valid")
    index = open_index(prepare(release, folder / "JPEGImages", mevis / "index"), "valid")
    assert not index.has_masks
    assert not any(each.is_no_target for each in index)


@pytest.mark.parametrize(
    ("split", "keep_training_masks"), [("train", True), ("valid_u", True), ("valid_u", False)]
)
def test_mevis_without_its_masks_is_refused_where_they_are_kept(
    mevis: Path, split: str, keep_training_masks: bool
):
    folder = (mevis / "valid_u").rename(mevis / split)
    (folder / "mask_dict.json").unlink()
    with pytest.raises(InputError, match=rf"{split}/mask_dict\.json is missing"):
        read_mevis(source=mevis, split=split, keep_training_masks=keep_training_masks)


@pytest.mark.parametrize("has_file", [True, False])
def test_mevis_text_alone_is_the_same_with_and_without_the_mask_file(mevis: Path, has_file: bool):
    folder = (mevis / "valid_u").rename(mevis / "train")
    if not has_file:
        (folder / "mask_dict.json").unlink()
    folders = ("--source", mevis, "--images", folder / "JPEGImages", "--out", mevis / "index")
    main(["mevis", *map(str, folders), "--split", "train", "--no-masks", "--quiet"])
    index = open_index(mevis / "index", "train")
    assert index.facts.masks_left_out
    assert [(each.mask, each.annotation_ids, each.is_no_target) for each in index] == [
        (None, (10,), False),
        (None, (10,), False),
        (None, (10, 11), False),
        (None, (10, 11), False),
    ]


def test_a_mevis_object_without_a_number_is_refused_in_text_alone(mevis: Path):
    folder = (mevis / "valid_u").rename(mevis / "train")
    meta = json.loads((folder / "meta_expressions.json").read_text())
    meta["videos"]["v1"]["expressions"]["0"]["anno_id"] = ["ten"]
    (folder / "meta_expressions.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="should have numbers as 'anno_id'"):
        read_mevis(source=mevis, split="train", keep_training_masks=False)


def test_mevis_without_a_single_mask_is_refused(mevis: Path):
    (mevis / "valid_u" / "mask_dict.json").write_text("{}")
    with pytest.raises(InputError, match="lists of masks by number"):
        read_mevis(source=mevis)


def test_a_mevis_sentence_that_names_no_objects_beside_masks_is_refused(mevis: Path):
    without_objects(mevis / "valid_u")
    with pytest.raises(InputError, match="Expression 0 of video v1 has no 'anno_id'"):
        read_mevis(source=mevis)


def test_mevis_masks_for_other_frames_are_refused(mevis: Path):
    (mevis / "valid_u" / "mask_dict.json").write_text(json.dumps({"10": [None], "11": [None]}))
    with pytest.raises(InputError, match="masks for 1 of 2 frames"):
        read_mevis(source=mevis)


def test_another_file_than_mevis_is_refused(mevis: Path):
    (mevis / "valid_u" / "meta_expressions.json").write_text("[]")
    with pytest.raises(InputError, match="has no videos"):
        read_mevis(source=mevis)
