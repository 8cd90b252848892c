"""The whole pipeline in miniature, started as make starts it."""

import json
import re
import subprocess
import sys

import pytest

from tris.data.index import open_index
from tris.encoders.clip import ClipEncoder
from tris.pseudo.store import open_label_store
from tris.response.response_net import ResponseNet
from tris.segmenters.contract import Segmenter

pytestmark = pytest.mark.slow

ROWS = [
    "baseline_whole_image", "baseline_centre_disc", "baseline_saliency", "response", "prms",
    "labels", "segmenter",
]  # fmt: skip
METRICS = {
    "mean_iou", "overall_iou", "precision_at_50", "peak_in_mask_accuracy", "peak_in_box_accuracy",
    "box_accuracy",
}  # fmt: skip


def losses_of(job_folder):
    lines = (job_folder / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    return [each["value"] for each in logged if each["key"] == "train/loss"]


@pytest.fixture(scope="module")
def metrics(finished_run):
    return json.loads((finished_run / "metrics.json").read_text())


@pytest.mark.parametrize("job", ["pretrain", "response", "segmenter"])
def test_the_loss_of_each_training_falls(finished_run, job):
    losses = losses_of(finished_run / job)
    third = max(1, len(losses) // 3)
    assert sum(losses[-third:]) / third < sum(losses[:third]) / third


def test_every_referent_of_the_training_split_has_one_label(finished_run):
    index = open_index(finished_run / "index", "train")
    store = open_label_store(finished_run / "labels")
    assert sorted(store.keys()) == sorted(("refcoco", each.referent_id) for each in index)
    lines = [
        line
        for shard in (finished_run / "labels").glob("shard-*.jsonl")
        for line in shard.read_text().splitlines()
    ]
    assert len(lines) == len(index)


@pytest.mark.parametrize("row", ROWS)
def test_every_step_is_scored_on_every_evaluation_split(metrics, row):
    assert set(metrics[row]) == {"val"}


@pytest.mark.parametrize("row", ROWS)
def test_all_figures_are_fractions_overall_and_by_expression_type(metrics, row):
    scores = dict(metrics[row]["val"])
    by_type = scores.pop("by_type")
    assert set(by_type) == {"attribute", "position", "relation"}
    for figures in (scores, *by_type.values()):
        assert set(figures) <= METRICS
        assert all(0 <= value <= 1 for value in figures.values())
    assert {"mean_iou", "overall_iou", "precision_at_50"} <= set(scores)


def test_the_whole_image_as_prediction_scores_its_objects_share(metrics, finished_run):
    from tris.data.masks import decode_mask

    shares = [
        decode_mask(each.mask).mean()
        for each in open_index(finished_run / "index", "val")
        for _ in each.sentences
    ]
    expected = sum(shares) / len(shares)
    assert metrics["baseline_whole_image"]["val"]["mean_iou"] == pytest.approx(expected, abs=1e-9)


def test_the_model_directories_of_all_stages_load(finished_run):
    assert isinstance(ClipEncoder.from_pretrained(finished_run / "clip"), ClipEncoder)
    response = ResponseNet.from_pretrained(finished_run / "response" / "model")
    assert isinstance(response, ResponseNet)
    segmenter = Segmenter.from_pretrained(finished_run / "segmenter" / "model")
    assert isinstance(segmenter, Segmenter)


def test_nothing_half_written_or_hidden_is_left(finished_run):
    leftovers = [
        path for path in finished_run.rglob("*") if re.search(r"\.part$|^\.|\.tmp$", path.name)
    ]
    assert leftovers == []


def test_a_second_start_of_a_finished_stage_does_nothing(finished_run, zygote, run_settings):
    before = (finished_run / "response" / "model" / "model.safetensors").stat().st_mtime_ns
    output = zygote.run("train_response", run_settings(finished_run))
    assert "is there already" in output
    assert (finished_run / "response" / "model" / "model.safetensors").stat().st_mtime_ns == before


def tris(*arguments):
    command = [sys.executable, "-m", "tris.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_tris_report_makes_a_page_of_the_run(finished_run, tmp_path):
    done = tris("report", finished_run, "--out", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "index.html").read_text()
    assert "PointM" in page
    assert "segmenter" in page.lower()


@pytest.mark.parametrize("model", ["response/model", "segmenter/model"])
def test_tris_predict_answers_with_the_model_of_either_stage(finished_run, tmp_path, model):
    image = sorted((finished_run / "data" / "images").glob("*.jpg"))[-1]
    done = tris(
        "predict", "--model", finished_run / model, "--image", image,
        "--expression", "the red circle", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert {"mask", "point", "no_target"} <= set(json.loads(line))
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
