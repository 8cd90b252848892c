"""The same results whatever the number of processes."""

import json
import shutil

import pytest
import safetensors.torch
import torch

from tris.cli.score import main as score

pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


def label_lines(run):
    shards = sorted((run / "labels").glob("shard-*.jsonl"))
    return len(shards), sorted(line for each in shards for line in each.read_text().splitlines())


def test_labels_of_two_processes_equal_those_of_one(
    finished_run, copy_of_run, zygote, run_settings
):
    run = copy_of_run("data", "index", "clip", "response")
    zygote.run("make_pseudo_labels", run_settings(run), num_processes=2)
    one, other = label_lines(finished_run), label_lines(run)
    assert (one[0], other[0]) == (1, 2)
    assert one[1] == other[1]


def test_figures_gallery_and_predictions_of_two_processes_equal_those_of_one(
    finished_run, copy_of_run, zygote, run_settings, tmp_path
):
    parts = ("data", "index", "index_with_masks", "clip", "response", "labels", "segmenter")
    run = copy_of_run(*parts)
    zygote.run("evaluate", [*run_settings(run), "--predictions"], num_processes=2)
    one, other = (json.loads((each / "metrics.json").read_text()) for each in (finished_run, run))
    assert one == other
    pictures = [
        {path.name: path.read_bytes() for path in (each / "gallery").iterdir()}
        for each in (finished_run, run)
    ]
    assert pictures[0] == pictures[1]
    (predictions,) = (run / "predictions").iterdir()
    scores = tmp_path / "scores.json"
    score([
        "--index", str(run / "index"), "--split", "val", "--predictions", str(predictions),
        "--json", str(scores),
    ])  # fmt: skip
    scored = json.loads(scores.read_text())
    for name in ("mean_iou", "overall_iou", "precision_at_50", "peak_in_mask_accuracy"):
        assert scored[name] == pytest.approx(other["segmenter"]["val"][name])


def encoder_weights(model, prefix=""):
    state = safetensors.torch.load_file(model / "model.safetensors")
    return {
        name.removeprefix(prefix): state[name].double().flatten()
        for name in sorted(state)
        if name.startswith(prefix) and state[name].is_floating_point()
    }


@pytest.fixture(scope="module")
def frozen(finished_run, tmp_path_factory, zygote, run_settings):
    """Stage 1 with frozen batch norm by one process and by two, a few steps."""
    runs = {}
    for count in (1, 2):
        run = runs[count] = tmp_path_factory.mktemp("processes") / f"run{count}"
        for part in ("data", "index", "clip"):
            shutil.copytree(finished_run / part, run / part)
        overrides = (
            "--response.freeze-batch-norm", "--response.training.steps=6",
            "--response.training.evaluate-every=3",
        )  # fmt: skip
        zygote.run("train_response", run_settings(run, *overrides), num_processes=count)
    return runs


def test_stage_one_of_two_processes_ends_close_to_that_of_one(frozen, finished_run):
    """Rounding differs; Adam blows that up in the few weights whose gradient is all but zero.

    So the typical weight is compared: the median difference with the median way from the start.
    Where the gradient through texts of the other process is lost, they are about equal.
    """
    start = encoder_weights(finished_run / "clip")
    one, two = (encoder_weights(frozen[n] / "response" / "model", "encoder.") for n in (1, 2))
    moved = {name: (one[name] - start[name]).abs() for name in start}
    apart = {name: (two[name] - one[name]).abs() for name in start}
    everything = [torch.cat(list(each.values())).median() for each in (apart, moved)]
    assert everything[0] < 0.01 * everything[1]
    for name, way in moved.items():
        assert apart[name].median() <= 0.06 * way.median(), name


def test_two_processes_see_the_validation_figures_of_one(frozen):
    best = [
        json.loads((frozen[count] / "response" / "finished.json").read_text())["best"]
        for count in (1, 2)
    ]
    for metric, value in best[0].items():
        assert best[1][metric] == pytest.approx(value, abs=0.03)
