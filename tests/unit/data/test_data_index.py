import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from tris.data.index import (
    Index,
    IndexWriter,
    Referent,
    expression_kinds,
    expression_types,
    open_index,
)
from tris.data.masks import encode_mask
from tris.errors import InputError
from tris.files import replace_directory

MASK = encode_mask(np.eye(4, dtype=np.uint8))


def referent(number: int = 0, **changes: object) -> Referent:
    plain = Referent(
        referent_id=number,
        image_id=number // 2,
        file_name=f"{number // 2}.jpg",
        height=4,
        width=4,
        expression_ids=(10 * number, 10 * number + 1),
        sentences=("left cat", "قطة 🐈"),
        raw_sentences=("LEFT cat", "قطة 🐈"),
        mask=MASK,
        boxes=((0.0, 0.0, 4.0, 4.0),),
        annotation_ids=(number,),
    )
    return replace(plain, **changes)


def write(out: Path, referents: list[Referent], **options: object) -> Path:
    with IndexWriter(out, dataset="toy", images=out.parent / "images", **options) as writer:
        for each in referents:
            writer.add("train", each)
    return out


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return open_index(write(tmp_path / "index", [referent(n) for n in range(1300)]), "train")


def test_a_referent_comes_back_as_it_was(tmp_path: Path):
    full = referent(
        3,
        expression_types=("place", ""),
        category="cat",
        is_no_target=True,
        group="cats",
        source_id="a/b",
        is_turned=True,
        coco_id=9,
    )
    assert open_index(write(tmp_path / "index", [full]), "train")[0] == full


def test_rows_beyond_the_first_batch_are_found(index: Index):
    assert len(index) == 1300
    assert index[1299] == referent(1299)
    assert index[-1] == referent(1299)


def test_going_through_an_index_gives_every_row_in_order(index: Index):
    assert [each.referent_id for each in index] == list(range(1300))


@pytest.mark.parametrize("row", [1300, -1301])
def test_a_row_outside_the_index_is_an_index_error(index: Index, row: int):
    with pytest.raises(IndexError):
        index[row]


def test_a_running_expression_number_leads_to_its_referent_and_place(tmp_path: Path):
    lengths = [1, 3, 2]
    rows = [
        referent(n, expression_ids=tuple(range(k)), sentences=("a",) * k, raw_sentences=("a",) * k)
        for n, k in enumerate(lengths)
    ]
    index = open_index(write(tmp_path / "index", rows), "train")
    assert index.num_expressions == 6
    wanted = [(row, place) for row, k in enumerate(lengths) for place in range(k)]
    assert [index.expression_row(number) for number in range(6)] == wanted
    assert [index.first_expression(row) for row in range(3)] == [0, 1, 4]


def test_sentences_without_a_type_are_told_apart_by_what_they_mean(tmp_path: Path):
    rows = [
        referent(1, expression_types=("place", "")),
        referent(2, annotation_ids=(2, 3)),
        referent(3, annotation_ids=(), is_no_target=True),
    ]
    index = open_index(write(tmp_path / "index", rows), "train")
    kinds = {10: "place", 11: "single", 20: "multi", 21: "multi", 30: "none", 31: "none"}
    assert expression_kinds(index) == kinds
    assert expression_types(index) == {10: "place"}


def test_where_every_sentence_means_one_object_there_are_only_types(tmp_path: Path):
    rows = [referent(1, expression_types=("place", "")), referent(2)]
    index = open_index(write(tmp_path / "index", rows), "train")
    assert expression_kinds(index) == {10: "place"}


def test_an_expression_outside_the_index_is_an_index_error(index: Index):
    with pytest.raises(IndexError):
        index.expression_row(index.num_expressions)


def test_counts_stand_in_the_manifest(tmp_path: Path):
    rows = [
        referent(0, annotation_ids=(1, 2)),
        referent(1, annotation_ids=(), is_no_target=True),
        referent(2, annotation_ids=(2,), mask=None),
    ]
    facts = open_index(write(tmp_path / "index", rows), "train").facts
    counted = (facts.images, facts.referents, facts.expressions, facts.multi_target)
    assert counted == (2, 3, 6, 2)
    assert (facts.no_target, facts.objects, facts.masks) == (2, 2, 2)


def test_a_referent_of_two_splits_counts_once_in_all(tmp_path: Path):
    with IndexWriter(tmp_path / "index", dataset="toy", images=tmp_path / "images") as writer:
        for split in ("testA", "testB"):
            writer.add(split, referent(0))
        assert (writer.total().referents, writer.total().expressions) == (1, 2)
        assert [facts.referents for facts in writer.facts().values()] == [1, 1]


def test_an_index_has_masks_only_where_every_referent_has_one(tmp_path: Path):
    whole = open_index(write(tmp_path / "a", [referent(0), referent(1)]), "train")
    part = open_index(write(tmp_path / "b", [referent(0), referent(1, mask=None)]), "train")
    assert (whole.has_masks, part.has_masks) == (True, False)


def test_masks_of_a_text_only_training_split_are_dropped(tmp_path: Path):
    out = tmp_path / "index"
    with IndexWriter(
        out, dataset="toy", images=tmp_path / "images", keep_training_masks=False
    ) as writer:
        writer.add("train", referent(0))
        writer.add("val", referent(1))
    train, val = open_index(out, "train"), open_index(out, "val")
    assert (train[0].mask, train[0].boxes) == (None, ())
    assert val[0].mask == MASK
    assert train.facts.masks_left_out
    assert not val.facts.masks_left_out
    assert str(MASK["counts"]).encode() not in (out / "train.arrow").read_bytes()


def test_an_index_moves_together_with_its_images(tmp_path: Path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "index", [referent(0)])
    (tmp_path / "a").rename(tmp_path / "b")
    index = open_index(tmp_path / "b" / "index", "train")
    assert index.image_path(index[0]).resolve() == tmp_path / "b" / "images" / "0.jpg"


def test_pickling_an_index_carries_no_rows(index: Index):
    pickled = pickle.dumps(index)
    assert len(pickled) < 2000
    assert pickle.loads(pickled)[700] == index[700]  # noqa: S301 - made above


def _read_row(index: Index) -> int:
    return index[1234].referent_id


@pytest.mark.multiprocess
def test_a_worker_process_reads_the_same_rows(index: Index):
    with get_context("fork").Pool(1) as pool:
        assert pool.apply(_read_row, (index,)) == 1234
        pool.close()
        pool.join()


def test_opening_loads_neither_torch_nor_pandas(index: Index):
    import subprocess

    code = (
        "import sys; from tris.data.index import open_index; "
        f"open_index({str(index.directory)!r}, 'train')[5]; "
        "print(sorted({'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hugging_face_datasets_opens_a_split(index: Index):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_file(str(index.directory / "train.arrow"))
    assert table[7]["sentences"] == ["left cat", "قطة 🐈"]


def test_an_error_while_writing_leaves_the_older_index_whole(tmp_path: Path):
    out = write(tmp_path / "index", [referent(0)])

    def write_half() -> None:
        with IndexWriter(out, dataset="toy", images=tmp_path / "images") as writer:
            writer.add("train", referent(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert open_index(out, "train")[0] == referent(0)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_an_index_without_a_referent_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no referent is left"):
        write(tmp_path / "index", [])
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no index"):
        write(tmp_path / "thesis", [referent(0)])
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_an_index_that_holds_the_images_is_never_replaced(tmp_path: Path):
    out = write(tmp_path / "index", [referent(0)])
    with pytest.raises(InputError, match="choose another --out"):
        IndexWriter(out, dataset="toy", images=out / "images")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expression_ids": (1,)}, "one id, sentence and raw sentence each"),
        ({"expression_ids": (), "sentences": (), "raw_sentences": ()}, "at least one"),
        ({"expression_types": ("place",)}, "one id"),
        ({"height": 5}, "has a mask of size"),
        ({"sentences": ("a", "\ud83d")}, "no Unicode"),
    ],
)
def test_a_referent_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "index", [referent(0, **changes)])


@pytest.mark.parametrize("split", ["../train", "", "a/b", ".hidden"])
def test_a_split_that_is_no_file_name_is_refused(tmp_path: Path, split: str):
    with (
        pytest.raises(InputError, match="cannot be a split"),
        IndexWriter(tmp_path / "index", dataset="toy", images=tmp_path) as writer,
    ):
        writer.add(split, referent(0))


def test_a_missing_index_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(InputError, match="tris prepare"):
        open_index(tmp_path / "nothing", "train")


def test_a_folder_without_manifest_is_no_index(tmp_path: Path):
    with pytest.raises(InputError, match=r"no index \(it has no index.json\)"):
        open_index(tmp_path, "train")


def test_an_unknown_split_is_answered_with_the_known_ones(index: Index):
    with pytest.raises(InputError, match="it has train"):
        open_index(index.directory, "val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "does not describe an index"),
        ('{"format": "else"}', "does not describe an index"),
        ('{"format": "tris-index", "format_version": 99}', "format version 99"),
        ('{"format": "tris-index", "format_version": 1}', "damaged"),
    ],
)
def test_a_damaged_manifest_is_named(index: Index, content: str, message: str):
    (index.directory / "index.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_index(index.directory, "train")


def test_a_truncated_table_is_named(index: Index):
    path = index.directory / "train.arrow"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"train\.arrow is damaged"):
        open_index(index.directory, "train")


def test_a_missing_table_is_named(index: Index):
    (index.directory / "train.arrow").unlink()
    with pytest.raises(InputError, match=r"train\.arrow is missing"):
        open_index(index.directory, "train")


def test_a_table_that_differs_from_its_manifest_is_named(index: Index):
    path = index.directory / "index.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["referents"] = 7
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="holds 1300 referents, its manifest says 7"):
        open_index(index.directory, "train")


def test_a_table_of_another_kind_is_named(index: Index):
    import pyarrow as pa

    table = pa.table({"a": [1, 2]})
    with (
        pa.OSFile(str(index.directory / "train.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as stream,
    ):
        stream.write_table(table)
    with pytest.raises(InputError, match="foreign columns"):
        open_index(index.directory, "train")


def test_an_index_is_replaced_through_a_path_that_climbs(tmp_path: Path):
    (tmp_path / "index").mkdir()
    for _ in range(2):
        write(tmp_path / "index" / ".." / "index", [referent()])
    assert len(open_index(tmp_path / "index", "train")) == 1


def test_two_writers_of_one_index_both_finish_and_leave_one_whole(tmp_path: Path):
    def keep_replacing(number: int) -> None:
        for _ in range(20):
            new = tmp_path / f"new{number}"
            new.mkdir()
            (new / "file").touch()
            replace_directory(new, tmp_path / "index")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(keep_replacing, range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert (tmp_path / "index" / "file").exists()
