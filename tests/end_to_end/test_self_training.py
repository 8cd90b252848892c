"""Merging, competition and a second round of stage 2, started as make starts them."""

import json
import shutil
import signal
import sys
from collections import defaultdict

import numpy as np
import pytest
import torch

from benchmarks.label_cases import (
    default_job,
    label_case,
    open_run,
    segmenter_cases,
    settings_of,
    stage1_cases,
)
from stages import train_segmenter
from stages.labelling import one_thread
from stages.rounds import find_round
from stages.setup import start_stage
from tris.data.index import open_index
from tris.pseudo.store import open_label_store
from tris.segmenters.contract import Segmenter

pytestmark = pytest.mark.slow

# Maps of networks that learned next to nothing coincide; nobody is to be joined for that.
COMPETING = (
    "--labels.selection.method=margin", "--labels.selection.temperature=0.05",
    "--labels.label.competition=image", "--labels.label.competing.map-overlap=1.1",
)  # fmt: skip
TWO_ROUNDS = (
    "--segmenter.rounds=2", "--self-training.steps=6",
    "--self-training.label.competing.map-overlap=1.1",
)  # fmt: skip
PARTS = ("data", "index", "index_with_masks", "clip", "response", "labels", "segmenter")


def label_lines(store):
    shards = sorted(store.glob("shard-*.jsonl"))
    return sorted(line for each in shards for line in each.read_text().splitlines())


def assert_no_overlap(run, store):
    index, labels = open_index(run / "index", "train"), open_label_store(store)
    images = defaultdict(list)
    for referent in index:
        images[referent.image_id].append(labels.get("refcoco", referent.referent_id))
    assert max(len(each) for each in images.values()) > 1
    for each in images.values():
        assert np.sum([label == 1 for label in each], axis=0).max() <= 1


@pytest.fixture(scope="module")
def competing(finished_run, tmp_path_factory, zygote, run_settings):
    """Labels that competed, made by one process."""
    run = tmp_path_factory.mktemp("competing") / "run"
    run.mkdir()
    for part in ("data", "index", "clip", "response"):
        (run / part).symlink_to(finished_run / part)
    zygote.run("make_pseudo_labels", run_settings(run, *COMPETING))
    return run


def test_labels_of_one_image_do_not_overlap(competing):
    assert_no_overlap(competing, competing / "labels")


def test_labels_that_competed_are_others_than_those_that_did_not(competing, finished_run):
    assert label_lines(competing / "labels") != label_lines(finished_run / "labels")


@pytest.fixture
def restores_attention():
    yield
    torch.backends.cuda.enable_flash_sdp(True)


def assert_searched_as_made(run, maps, store):
    """The cases of benchmarks/label_cases.py have the labels that are in the store."""
    stage, index, made = open_run(run), open_index(run / "index", "train"), open_label_store(store)
    settings, job = settings_of(stage.config, maps), default_job(stage.config, maps)
    found = {}
    with one_thread(stage):
        if maps == "stage1":
            cases = list(stage1_cases(stage, index, len(index)))
        else:
            cases = list(segmenter_cases(stage, job, index, len(index)))
        for case in cases:
            for place, label in label_case(case, settings).items():
                found["refcoco", case.referents[place].referent_id] = label.label
    assert found.keys() == set(made.keys())
    for key, label in found.items():
        np.testing.assert_array_equal(label, made.get(*key))


def test_the_search_of_settings_has_the_labels_of_the_first_round(finished_run, competing):
    for run in (finished_run, competing):
        assert_searched_as_made(run, "stage1", run / "labels")


@pytest.mark.multiprocess
def test_labels_that_compete_do_not_depend_on_the_number_of_processes(
    competing, copy_of_run, zygote, run_settings
):
    run = copy_of_run("data", "index", "clip", "response")
    zygote.run("make_pseudo_labels", run_settings(run, *COMPETING), num_processes=2)
    assert label_lines(run / "labels") == label_lines(competing / "labels")


def test_labelling_that_was_killed_within_an_image_goes_on_to_the_same_labels(
    competing, copy_of_run, zygote, run_settings
):
    run = copy_of_run("data", "index", "clip", "response")
    (run / "labels").mkdir()
    (run / "labels" / "settings.json").write_bytes(
        (competing / "labels" / "settings.json").read_bytes()
    )
    whole = (competing / "labels" / "shard-00000-of-00001.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    # Two of the first image's referents are there, the third line is torn.
    (run / "labels" / "shard-00000-of-00001.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:40])
    zygote.run("make_pseudo_labels", run_settings(run, *COMPETING))
    assert label_lines(run / "labels") == label_lines(competing / "labels")


@pytest.fixture(scope="module")
def two_rounds(finished_run, tmp_path_factory, zygote, run_settings):
    """A run of one round, taken to two."""
    run = tmp_path_factory.mktemp("rounds") / "run"
    run.mkdir()
    for part in PARTS:
        shutil.copytree(finished_run / part, run / part)
    arguments = run_settings(run, *TWO_ROUNDS, "--evaluation.crf")
    zygote.run("train_segmenter", arguments)
    zygote.run("self_train", arguments)
    zygote.run("evaluate", arguments)
    return run


def test_the_first_round_keeps_its_weights_and_the_second_is_the_segmenter(
    two_rounds, finished_run, weights_of
):
    first = two_rounds / "rounds" / "1" / "segmenter" / "model"
    assert weights_of(first) == weights_of(finished_run / "segmenter" / "model")
    assert weights_of(two_rounds / "segmenter" / "model") != weights_of(first)
    Segmenter.from_pretrained(two_rounds / "segmenter" / "model")


def test_labels_of_the_second_round_name_it_and_do_not_overlap(two_rounds):
    store = two_rounds / "rounds" / "2" / "labels"
    settings = open_label_store(store).manifest.settings
    assert settings.config["round"] == 2
    assert set(settings.weights) == {"segmenter"}
    assert_no_overlap(two_rounds, store)


@pytest.mark.usefixtures("restores_attention")
def test_the_search_of_settings_has_the_labels_of_the_second_round(two_rounds):
    assert_searched_as_made(two_rounds, "segmenter", two_rounds / "rounds" / "2" / "labels")


@pytest.mark.usefixtures("restores_attention")
def test_the_second_round_reads_on_behind_the_batches_of_the_first(
    two_rounds, run_settings, monkeypatch
):
    given = []

    class ReachedError(Exception):
        pass

    def batches(stage, dataset, config, *, earlier, **_):
        given.extend([earlier, config.steps])
        raise ReachedError

    monkeypatch.setattr(train_segmenter, "TrainingBatches", batches)
    arguments = ["self_train", *run_settings(two_rounds, *TWO_ROUNDS)]
    monkeypatch.setattr(sys, "argv", arguments)
    stage = start_stage("A later round.", training="segmenter.training")
    with pytest.raises(ReachedError):
        train_segmenter.train(stage, find_round(stage, 2), {})
    assert given == [(stage.config.segmenter.training,), 6]


def test_every_round_and_the_crf_at_test_are_scored(two_rounds):
    metrics = json.loads((two_rounds / "metrics.json").read_text())
    assert {"segmenter_round1", "segmenter", "segmenter_crf"} <= set(metrics)
    plain, refined = (metrics[name]["val"] for name in ("segmenter", "segmenter_crf"))
    assert plain["peak_in_mask_accuracy"] == refined["peak_in_mask_accuracy"]
    assert plain["mean_iou"] != refined["mean_iou"]


def test_the_ceiling_is_trained_on_annotated_masks_as_long_and_scored_alike(
    finished_run, copy_of_run, zygote, run_settings, weights_of
):
    run = copy_of_run("data", "index", "clip", "response")
    arguments = run_settings(run, *TWO_ROUNDS, "--evaluation.crf")
    assert "index_with_masks" in zygote.fail("train_segmenter", [*arguments, "--ceiling"])
    shutil.copytree(finished_run / "index_with_masks", run / "index_with_masks")
    for stage in ("train_segmenter", "self_train"):
        zygote.run(stage, [*arguments, "--ceiling"])
    zygote.run("evaluate", arguments)
    assert not (run / "labels").exists()
    assert not (run / "rounds" / "2").exists()
    first, last = (weights_of(run / job / "model") for job in ("rounds/1/ceiling", "ceiling"))
    assert first != last
    assert first != weights_of(finished_run / "segmenter" / "model")
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"ceiling_round1", "ceiling", "ceiling_crf"} <= set(metrics)
    plain, refined = (metrics[name]["val"] for name in ("ceiling", "ceiling_crf"))
    assert plain["peak_in_mask_accuracy"] == refined["peak_in_mask_accuracy"]
    assert plain["mean_iou"] != refined["mean_iou"]


def test_a_second_start_does_nothing(two_rounds, zygote, run_settings, weights_of):
    before = weights_of(two_rounds / "segmenter" / "model")
    arguments = run_settings(two_rounds, *TWO_ROUNDS)
    for stage in ("train_segmenter", "self_train"):
        assert "is there already" in zygote.run(stage, arguments)
    assert weights_of(two_rounds / "segmenter" / "model") == before


def test_asking_for_one_round_of_a_run_of_two_is_refused(two_rounds, zygote, run_settings):
    assert "give ROUNDS=2" in zygote.fail("train_segmenter", run_settings(two_rounds))


def test_a_third_round_follows_the_second(two_rounds, tmp_path, zygote, run_settings, weights_of):
    run = tmp_path / "run"
    shutil.copytree(two_rounds, run)
    arguments = run_settings(run, *TWO_ROUNDS, "--segmenter.rounds=3")
    for stage in ("train_segmenter", "self_train", "evaluate"):
        zygote.run(stage, arguments)
    second = run / "rounds" / "2" / "segmenter" / "model"
    assert weights_of(second) == weights_of(two_rounds / "segmenter" / "model")
    assert weights_of(run / "segmenter" / "model") != weights_of(second)
    assert open_label_store(run / "rounds" / "3" / "labels").manifest.settings.config["round"] == 3
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"segmenter_round1", "segmenter_round2", "segmenter"} <= set(metrics)


def test_a_killed_second_round_resumes_to_the_same_weights(
    two_rounds, copy_of_run, zygote, run_settings, weights_of
):
    run = copy_of_run(*PARTS)
    arguments = run_settings(run, *TWO_ROUNDS, "--segmenter.training.checkpoint-steps=2")
    zygote.run("train_segmenter", arguments)
    running = zygote.start("self_train", arguments)
    checkpoint = run / "segmenter" / "checkpoints" / "step-00000002"
    assert running.signal_once_there(checkpoint, signal.SIGKILL) == [-signal.SIGKILL]
    zygote.run("self_train", arguments)
    assert weights_of(run / "segmenter" / "model") == weights_of(two_rounds / "segmenter" / "model")


def begin_second_round(run, two_rounds):
    """Lend a fresh run what the second round starts from."""
    run.mkdir()
    for part in ("data", "index", "index_with_masks", "clip", "response", "labels", "rounds/1"):
        (run / part).parent.mkdir(exist_ok=True)
        (run / part).symlink_to(two_rounds / part)
    return run


def test_relabelling_that_was_killed_goes_on_to_the_same_labels(
    two_rounds, tmp_path, zygote, run_settings
):
    run = begin_second_round(tmp_path / "run", two_rounds)
    made, store = two_rounds / "rounds" / "2" / "labels", run / "rounds" / "2" / "labels"
    store.mkdir(parents=True)
    (store / "settings.json").write_bytes((made / "settings.json").read_bytes())
    shard = "shard-00000-of-00001.jsonl"
    lines = (made / shard).read_bytes().splitlines(keepends=True)
    (store / shard).write_bytes(b"".join(lines[:2]) + lines[2][:40])
    zygote.run("self_train", run_settings(run, *TWO_ROUNDS))
    assert label_lines(store) == label_lines(made)


@pytest.mark.multiprocess
def test_relabelling_does_not_depend_on_the_number_of_processes(
    two_rounds, tmp_path, zygote, run_settings
):
    run = begin_second_round(tmp_path / "run", two_rounds)
    zygote.run("relabel", run_settings(run, *TWO_ROUNDS), num_processes=2)
    made, store = (each / "rounds" / "2" / "labels" for each in (two_rounds, run))
    assert label_lines(store) == label_lines(made)
    assert len(list(store.glob("shard-*"))) == 2
    assert f"{store} is there already" in zygote.run("self_train", run_settings(run, *TWO_ROUNDS))


def test_what_cannot_be_relabelled_yet_is_left_to_the_next_start(copy_of_run, zygote, run_settings):
    run = copy_of_run("data", "index", "clip", "response", "labels")
    zygote.run("relabel", run_settings(run, *TWO_ROUNDS))
    assert not (run / "rounds").exists()


def test_the_second_round_before_the_first_says_what_to_run_first(
    copy_of_run, zygote, run_settings
):
    run = copy_of_run("data", "index", "clip", "response", "labels")
    assert "train_segmenter" in zygote.fail("self_train", run_settings(run, *TWO_ROUNDS))
