"""MABP and GRSer on gRefCOCO's files: real photographs, sentences about one, several or nothing."""

import json

import pytest

from tris.cli.predict import main as predict
from tris.cli.score import main as score
from tris.data.index import open_index

pytestmark = pytest.mark.slow

JOBS = ("pretrain", "response", "segmenter")
COMMON = ("prepare_data", "pretrain_clip", "train_response", "make_pseudo_labels")


@pytest.fixture(scope="module")
def make_settings(shared_data, tmp_path_factory, run_settings, repository):
    """Return the settings of a few steps of each stage, by segmenter."""
    run = tmp_path_factory.mktemp("grefcoco") / "run"
    few = [f"--{job}.training.{name}=2" for job in JOBS for name in ("steps", "evaluate-every")]

    def make(segmenter):
        return run, run_settings(
            run, "--data", str(shared_data / "refcoco_mini"), "--data.dataset=grefcoco",
            "--tracking.tracking=none", "--data.evaluation-splits", "val",
            "--labels.label.refiner=threshold", *few,
            "--segmenter.training.select=generalized_mean_iou",
            config=repository / "configs" / "refcoco_mini.py",
            segmenter=repository / "configs" / "segmenter" / f"{segmenter}_refcoco_mini.py",
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def base(make_settings, zygote):
    """Everything before the segmenter."""
    run, settings = make_settings("tris")
    for stage in COMMON:
        zygote.run(stage, settings)
    return run


@pytest.mark.parametrize("segmenter", ["mabp", "grser"])
def test_train_predict_and_score(base, make_settings, zygote, segmenter, tmp_path):
    run, settings = make_settings(segmenter)
    for stage in ("train_segmenter", "evaluate"):
        zygote.run(stage, settings)
    evaluated = json.loads((run / "metrics.json").read_text())["segmenter"]["gres_val"]
    assert set(evaluated["by_type"]) == {"single", "multi", "none"}
    split = ["--index", str(run / "index"), "--split", "val"]
    model = run / f"segmenter_{segmenter}" / "model"
    assert (model.parent / "best_generalized_mean_iou" / "config.json").is_file()
    predict(["--model", str(model), *split, "--out", str(tmp_path)])
    predictions, scores = tmp_path / "predictions.jsonl", tmp_path / "scores.json"
    facts = open_index(run / "index", "val").manifest.splits["val"]
    assert 0 < facts.no_target < facts.no_target + facts.multi_target < facts.expressions
    score([*split, "--predictions", str(predictions), "--protocol", "mabp", "--json", str(scores)])
    scored = json.loads(scores.read_text())
    for name in (
        "generalized_mean_iou", "cumulative_iou", "no_target_accuracy", "target_accuracy",
        "precision_at_70",
    ):  # fmt: skip
        assert scored[name] == pytest.approx(evaluated[name])
