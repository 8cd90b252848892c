import base64
import dataclasses
import gzip
import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tris.cli.score import main
from tris.data.index import IndexWriter, Referent, open_index
from tris.data.masks import empty_rle, encode_mask
from tris.errors import InputError
from tris.metrics.predictions import read_predictions
from tris.metrics.protocols import PROTOCOLS
from tris.metrics.rle import to_dense
from tris.metrics.scorer import Scorer
from tris.metrics.table import _PAIRS, metrics_table

HEIGHT, WIDTH = 12, 16
PERFECT = {"mean_iou", "overall_iou", "precision_at_90", "box_accuracy", "box_mean_iou"}


def square(left):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[3:9, left : left + 6] = True
    return mask


def referent(number, mask, **fields):
    ids = fields.pop("expression_ids", (10 * number, 10 * number + 1))
    return Referent(
        referent_id=number,
        image_id=number,
        file_name="a.png",
        height=HEIGHT,
        width=WIDTH,
        expression_ids=ids,
        sentences=("words",) * len(ids),
        raw_sentences=("words",) * len(ids),
        annotation_ids=() if mask is None else (number,),
        is_no_target=mask is None,
        mask=empty_rle(HEIGHT, WIDTH) if mask is None else encode_mask(mask),
        **fields,
    )


@pytest.fixture
def index(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "a.png")
    with IndexWriter(tmp_path / "index", dataset="toy", images=images) as writer:
        writer.add("val", referent(1, square(2), expression_types=("place", "colour")))
        writer.add("val", referent(2, square(7), expression_types=("place", "place")))
        writer.add("val", referent(3, None))
        writer.add("test", referent(4, square(0)))
    return tmp_path / "index"


def oracle():
    lines = [
        {"expression_id": 10 * n + k, "ref_id": n, "mask": encode_mask(square(left))}
        | {"point": [left, 3]}
        for n, left in ((1, 2), (2, 7))
        for k in (0, 1)
    ]
    return lines + [{"expression_id": 30 + k, "ref_id": 3, "mask": None} for k in (0, 1)]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def score(index, tmp_path, capsys):
    def run(lines, *more):
        predictions = write(tmp_path / "predictions.jsonl", lines)
        out = tmp_path / "scores.json"
        arguments = ["--index", str(index), "--split", "val", "--json", str(out)]
        main([*arguments, "--predictions", str(predictions), *more])
        return json.loads(out.read_text())

    return run


@pytest.fixture
def refusal(score, capsys):
    def run(lines, *more):
        with pytest.raises(SystemExit) as leaving:
            score(lines, *more)
        assert leaving.value.code == 2
        return capsys.readouterr().err

    return run


def numbers(report):
    return {
        name: value
        for name, value in report.items()
        if isinstance(value, float) and not name.startswith("num_")
    }


@pytest.mark.parametrize("protocol", ["standard", "refzom", "grefcoco", "mabp", "tris"])
def test_the_truth_scores_one_on_every_metric(score, protocol):
    lines = [line for line in oracle() if protocol != "tris" or line["mask"]]
    more = ["--allow-missing"] if protocol == "tris" else []
    found = numbers(score(lines, "--protocol", protocol, *more))
    if protocol == "mabp":
        assert found.pop("target_accuracy") == 0, "36 pixels are below its 50"
        return
    assert len(found) > 12
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_empty_predictions_score_zero_on_targeted_expressions(score):
    lines = [line | {"mask": None, "point": None} for line in oracle()]
    found = numbers(score(lines))
    rightly_refused = {"no_target_accuracy", "negative_recall", "zero_sample_accuracy"}
    assert {found.pop(name) for name in rightly_refused} == {1.0}
    assert found.pop("generalized_mean_iou") == found.pop("adapted_mean_iou") == 2 / 6
    assert set(found.values()) == {0.0}
    assert set(found) > PERFECT


def test_a_table_names_protocol_counts_and_both_ious(score, capsys):
    score(oracle(), "--protocol", "lavt")
    printed = capsys.readouterr().out
    assert "protocol lavt, split val, original pixels" in printed
    assert "6 expressions, 0 missing predictions, 0 extra predictions" in printed
    (ious,) = [line for line in printed.splitlines() if "mean_iou (mIoU)" in line]
    assert "overall_iou (oIoU)" in ious


def test_missing_predictions_are_an_error_that_says_what_to_do(refusal):
    message = refusal(oracle()[1:])
    assert "lacks 1 expressions of the split 'val' (10)" in message
    assert "--allow-missing" in message


def test_missing_predictions_count_as_empty_masks_when_allowed(score):
    report = score(oracle()[1:], "--allow-missing")
    assert (report["num_missing"], report["num_expressions"]) == (1, 6)
    assert report["mean_iou"] == 0.75


def test_predictions_for_another_split_are_counted_and_passed_over(score):
    extra = {"expression_id": 40, "ref_id": 4, "mask": None}
    report = score([*oracle(), extra])
    assert (report["num_extra"], report["mean_iou"]) == (1, 1.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"expression_id": 99, "mask": None}, "line 7: no split of"),
        ({"expression_id": 10, "mask": None}, "line 7: expression 10 was already predicted"),
        ({"expression_id": 10, "ref_id": 2, "mask": None}, 'line 7: "ref_id" is 2'),
        ({"expression_id": 10}, 'line 7: there is no "mask"'),
        ({"expression_id": "10", "mask": None}, 'line 7: "expression_id" must be a whole number'),
        ({"expression_id": True, "mask": None}, 'line 7: "expression_id" must be a whole number'),
        ({"expression_id": 10, "mask": None, "no_target": 1}, 'line 7: "no_target" must be'),
        ({"expression_id": 10, "mask": None, "point": [1]}, 'line 7: "point" must be [x, y]'),
        ({"expression_id": 10, "mask": {"size": [2, 2], "counts": [1]}}, "line 7: The runs"),
        ([1, 2], "line 7: an object was wanted"),
    ],
)
def test_a_bad_line_is_named_with_its_number(refusal, line, message):
    assert message in refusal([*oracle(), line])


def test_a_mask_of_the_wrong_size_is_named_with_both_sizes(refusal):
    lines = [{"expression_id": 10, "mask": empty_rle(6, 8)}]
    assert "line 1: the mask is 6 x 8 pixels (height x width), the image 12 x 16" in refusal(lines)


def test_a_point_outside_the_image_is_refused(refusal):
    assert "lies outside" in refusal([{"expression_id": 10, "mask": None, "point": [16, 0]}])


def test_a_line_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b'\n{"expression_id": 1, "mask": null}\n{"expression_id"\n')
    with pytest.raises(InputError, match="line 3: not JSON"):
        list(read_predictions(path))
    path.write_bytes(b'"\xff"\n')
    with pytest.raises(InputError, match="line 1: not JSON"):
        list(read_predictions(path))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        list(read_predictions(tmp_path / "none.jsonl"))
    with pytest.raises(InputError, match="is a folder"):
        list(read_predictions(tmp_path))


def test_unknown_protocols_and_resolutions_are_refused(refusal):
    assert "choose one of standard, tris" in refusal(oracle(), "--protocol", "bert")
    assert "--resolution 0" in refusal(oracle(), "--resolution", "0")


def test_a_resolution_takes_predictions_of_either_size(score):
    at_original = score(oracle(), "--resolution", "24")
    assert at_original["mean_iou"] == at_original["box_mean_iou"] == 1.0
    assert at_original["peak_in_mask_accuracy"] == 1.0
    resized = [
        line | ({"mask": encode_mask(np.ones((24, 24), bool))} if line["mask"] else {})
        for line in oracle()
    ]
    assert score(resized, "--resolution", "24")["mean_iou"] == pytest.approx(12 * 9 / 24**2)


def test_types_of_expressions_are_scored_apart_on_request(score, capsys):
    lines = oracle()
    lines[1]["mask"] = None
    report = score(lines, "--by-type")
    found = {name: each["generalized_mean_iou"] for name, each in report["by_type"].items()}
    assert found == {"place": 1.0, "colour": 0.0, "none": 1.0}
    shown = capsys.readouterr().out
    assert "by type of expression" in shown
    assert "generalized_mean_iou" in shown.split("by type of expression")[1]


def test_figures_by_type_say_where_there_is_none(score, index, tmp_path, capsys):
    images = tmp_path / "images"
    with IndexWriter(index, dataset="toy", images=images) as writer:
        writer.add("val", referent(4, square(0), expression_ids=(40,)))
    report = score([{"expression_id": 40, "mask": None}], "--by-type")
    assert report["by_type"] == {}
    assert "No expression of this split has a type." in capsys.readouterr().out


def test_grser_adds_saliency_metrics(score):
    report = score(oracle(), "--protocol", "grser")
    assert report["mae"] == 0
    assert report["s_measure"] == pytest.approx(1)
    assert report["max_f_measure"] == pytest.approx(4 / 6), "an empty truth has no F-measure"


def test_saliency_counts_where_it_is_given(score):
    lines = oracle()
    for line in lines:
        line["saliency"] = grey_png(np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1)))
    report = score(lines, "--protocol", "grser")
    ramp = np.arange(WIDTH) / (WIDTH - 1)
    truths = [
        to_dense(line["mask"]) if line["mask"] else np.zeros((HEIGHT, WIDTH)) for line in oracle()
    ]
    expected = np.mean([np.abs(ramp - truth).mean() for truth in truths])
    assert report["mae"] == pytest.approx(expected, abs=1e-3)
    assert report["mean_iou"] == score(oracle(), "--protocol", "grser")["mean_iou"]
    resized = score(lines, "--protocol", "grser", "--resolution", "24")
    assert resized["mae"] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("saliency", "problem"),
    [
        (5, "base64"),
        ("no base64!", "no PNG file"),
        ("aGVsbG8=", "no PNG file"),
        ("small", "original pixels"),
        ("colour", "grey"),
        ("deep", "8 bits"),
        ("cut", "no PNG file"),
        ("bomb", "no PNG file"),
    ],
)
def test_saliency_that_cannot_be_read_is_refused(refusal, saliency, problem):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    made = {
        "small": grey_png(np.zeros((2, 2), np.uint8)),
        "colour": grey_png(np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        "deep": grey_png(np.zeros((HEIGHT, WIDTH), np.uint16)),
        "cut": base64.b64encode(base64.b64decode(grey_png(noise))[:120]).decode(),
        "bomb": grey_png(np.zeros((20_000, 20_000), np.uint8)),
    }
    lines = oracle()
    lines[0]["saliency"] = made.get(saliency, saliency)
    assert problem in refusal(lines, "--protocol", "grser")


def grey_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_split_without_masks_cannot_be_scored_against(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "a.png")
    with IndexWriter(
        tmp_path / "index", dataset="toy", images=images, keep_training_masks=False
    ) as writer:
        writer.add("train", referent(1, square(2)))
    with pytest.raises(InputError, match="prepare it again without --no-masks"):
        Scorer(open_index(tmp_path / "index", "train"))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [((False, True, False), "2 of 3 rows of the split"), ((False,), "1 of 1 rows of the split")],
)
def test_rows_that_the_release_gives_no_mask_are_counted(tmp_path, rows, problem):
    images = tmp_path / "images"
    images.mkdir()
    with IndexWriter(tmp_path / "index", dataset="toy", images=images) as writer:
        for number, has_mask in enumerate(rows):
            row = referent(number, square(2))
            writer.add("valid", row if has_mask else dataclasses.replace(row, mask=None))
    with pytest.raises(InputError, match=problem) as refused:
        Scorer(open_index(tmp_path / "index", "valid"))
    assert "--no-masks" not in str(refused.value)


@pytest.fixture
def twins(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "a.png")
    with IndexWriter(tmp_path / "twins", dataset="toy", images=images) as writer:
        writer.add("val", referent(1, square(2), expression_ids=(5,), group="v/0"))
        writer.add("val", referent(2, square(7), expression_ids=(5,), group="v/0"))
    return tmp_path / "twins"


def test_one_sentence_of_two_referents_needs_the_ref_id(twins, tmp_path):
    scorer = Scorer(open_index(twins, "val"), protocol=PROTOCOLS["mevis"])
    lines = [
        {"expression_id": 5, "ref_id": 2, "mask": encode_mask(square(7))},
        {"expression_id": 5, "ref_id": 1, "mask": None},
        {"expression_id": 5, "mask": None},
    ]
    (_, first), (_, second), (_, unclear) = read_predictions(write(tmp_path / "p.jsonl", lines))
    scorer.add(first)
    scorer.add(second)
    with pytest.raises(InputError, match="several referents have"):
        scorer.add(unclear)
    assert scorer.metrics()["region_similarity"] == 0.5
    assert len(set(scorer.rows()[:, 2])) == 1, "frames of one sentence are one sequence"


def test_a_refused_file_leaves_earlier_scores_as_they_were(score, refusal, tmp_path):
    score(oracle())
    before = (tmp_path / "scores.json").read_text()
    refusal(oracle()[1:])
    assert (tmp_path / "scores.json").read_text() == before
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "line",
    [
        '{"expression_id": 1' + "0" * 5000 + ', "mask": null}',
        '{"expression_id": 10, "mask": null, "point": [1' + "0" * 400 + ", 0]}",
        '{"expression_id": 10, "mask": null, "point": [true, false]}',
        '{"expression_id": 10, "mask": {"size": [12, 16], "counts": "' + "o" * 999 + '"}}',
    ],
    ids=["id of 5000 digits", "point of 400 digits", "point of booleans", "run without end"],
)
def test_a_line_with_impossible_values_is_named(tmp_path, line):
    path = tmp_path / "predictions.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"predictions.jsonl, line 1: ") as caught:
        list(read_predictions(path))
    assert len(str(caught.value)) < 400


def test_a_packed_file_is_told_from_a_broken_one(tmp_path):
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(InputError, match="unpack it first"):
        list(read_predictions(path))


def test_a_folder_as_json_is_refused_before_scoring(index, tmp_path, capsys):
    arguments = ["--index", str(index), "--split", "val", "--predictions", "not looked at"]
    with pytest.raises(SystemExit) as leaving:
        main([*arguments, "--json", str(tmp_path)])
    assert leaving.value.code == 2
    assert "is a folder" in capsys.readouterr().err


def test_no_figure_of_the_table_is_cut_on_a_terminal_of_80_columns():
    names = [name for pair in _PAIRS for name in pair if name]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(metrics_table(dict.fromkeys(names, 1.0), title="all"))
    text = console.export_text()
    assert text.count("100.00") == len(names)
    assert "…" not in text
