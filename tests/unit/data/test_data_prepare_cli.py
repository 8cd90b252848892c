import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tris.cli.prepare import main
from tris.data.index import open_index
from tris.data.masks import rle_to_box


def prepare(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Prepares a set of refcoco_mini, once."""

    @functools.cache
    def prepared(name: str) -> Path:
        mini, out = shared_data / "refcoco_mini", tmp_path_factory.mktemp("indexes") / name
        prepare(name, "--source", mini, "--images", mini / "images", "--out", out, "--quiet")
        return out

    return prepared


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("refcoco", {"train": (62, 173, 470), "val": (12, 42, 112), "testA": (22, 55, 155)}),
        ("refcoco+", {"train": (58, 144, 144)}),
        ("refcocog", {"train": (62, 173, 173), "val": (12, 42, 42), "test": (25, 80, 80)}),
        ("grefcoco", {"train": (62, 292, 617)}),
        ("ref-zom", {"train": (62, 292, 617), "test": (36, 149, 322)}),
    ],
)
def test_every_real_set_has_the_counts_of_its_readme(
    real: Callable[[str], Path], name: str, counts: dict[str, tuple[int, int, int]]
):
    for split, wanted in counts.items():
        facts = open_index(real(name), split).facts
        assert (facts.images, facts.referents, facts.expressions) == wanted


def test_real_masks_agree_with_their_annotated_boxes(real: Callable[[str], Path]):
    for referent in open_index(real("refcoco"), "train"):
        drawn, annotated = rle_to_box(referent.mask), referent.boxes[0]
        assert max(abs(a - b) for a, b in zip(drawn, annotated, strict=True)) <= 3


def test_the_targets_of_grefcoco_are_none_one_or_many(real: Callable[[str], Path]):
    kinds = [
        min(len(referent.annotation_ids), 2)
        for split in ("train", "val", "testA", "testB")
        for referent in open_index(real("grefcoco"), split)
    ]
    assert [kinds.count(number) for number in (0, 1, 2)] == [105, 307, 95]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "images" / "a.jpg")
    line = {"image": "a.jpg", "expressions": ["left cat"], "polygons": [[0, 0, 2, 0, 2, 2, 0, 2]]}
    (tmp_path / "data.jsonl").write_text(json.dumps(line))
    return tmp_path


def on(own: Path, *more: object, name: str = "custom") -> None:
    folders = ("--source", own, "--images", own / "images", "--out", own / "index")
    prepare(name, *folders, *more)


def test_the_table_names_split_and_counts(own: Path, capsys: pytest.CaptureFixture[str]):
    on(own)
    printed, bar = capsys.readouterr()
    assert printed.splitlines()[1].split() == [
        "split",
        "images",
        "referents",
        "expressions",
        "multi",
        "no-target",
        "masks",
    ]
    assert printed.splitlines()[2].split() == ["train", "1", "1", "1", "0", "0", "1"]
    assert "referents: 100%" in bar


def test_quiet_shows_no_bar(own: Path, capsys: pytest.CaptureFixture[str]):
    on(own, "--quiet")
    assert capsys.readouterr().err == ""


def test_no_masks_is_said_in_the_table(own: Path, capsys: pytest.CaptureFixture[str]):
    on(own, "--no-masks")
    assert "left out" in capsys.readouterr().out
    assert open_index(own / "index", "train")[0].mask is None


def test_overlap_is_said_either_way(own: Path, capsys: pytest.CaptureFixture[str]):
    on(own)
    (own / "index").rename(own / "other")
    on(own, "--check-overlap", own / "other")
    assert "in train and the held-out splits of" in capsys.readouterr().out


QUIRK = ("--overlapping-polygons", "refer-quirk")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("custom", ("--split-by", "unc")),
        ("custom", ("--seed", "0")),
        ("custom", ("--positives-only",)),
        ("custom", ("--split", "val")),
        *[(name, QUIRK) for name in ("custom", "phrasecut", "mevis", "coca", "cosod3k")],
    ],
)
def test_an_option_of_another_data_set_is_refused(
    own: Path, name: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stopped:
        on(own, *arguments, name=name)
    assert stopped.value.code == 2
    assert f"{arguments[0]} has no meaning for {name}: leave it out." in capsys.readouterr().err


@pytest.mark.parametrize("name", ["refcoco", "refclef", "grefcoco", "ref-zom", "d3", "g-refc"])
def test_the_quirk_is_open_to_all_whose_masks_are_drawn_as_cocos(
    own: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        on(own, *QUIRK, name=name)
    assert "holds no" in capsys.readouterr().err


def test_bad_input_is_one_sentence_and_exit_code_2(own: Path):
    (own / "data.jsonl").write_text("{")
    code = "import sys; from tris.cli.prepare import main; main(sys.argv[1:])"
    folders = ["--source", own, "--images", own / "images", "--out", own / "index"]
    done = subprocess.run(
        [sys.executable, "-c", code, "custom", *map(str, folders)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: Line 1 of")
    assert not (own / "index").exists()


@pytest.mark.parametrize(
    "name",
    ["refcoco", "refclef", "grefcoco", "ref-zom", "grd", "d3", "g-refc", "phrasecut", "mevis"],
)
def test_every_data_set_says_which_file_it_lacks(
    own: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        on(own, "--quiet", name=name)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds no" in error or "is missing" in error
