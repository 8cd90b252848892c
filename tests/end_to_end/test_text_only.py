"""No mask of the training split may reach a label or a weight."""

import json
import pickle
import shutil
import signal

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tris.data.index import open_index

pytestmark = pytest.mark.slow

BEYOND = (
    "--response.training.sampling=images", "--response.training.global-batch-size=4",
    "--response.training.sentences-per-image=0", "--response.calibration.positive-weight=0",
    "--response.calibration.negative-weight=0", "--labels.selection.method=margin",
    "--labels.label.competition=image", "--segmenter.training.sampling=images",
    "--segmenter.training.global-batch-size=4", "--segmenter.training.sentences-per-image=0",
    "--segmenter.training.sentences-per-referent=1",
    "--segmenter.training.flip-probability=0.5", "--segmenter.network.has-place-words",
    "--segmenter.image-losses.referent-weight=1", "--segmenter.image-losses.dice-weight=0.5",
    "--segmenter.rounds=2", "--self-training.steps=6",
)  # fmt: skip
"""All that configs/synthetic.py adds to the paper's recipe."""
BEYOND_STAGES = ("train_response", "make_pseudo_labels", "train_segmenter", "self_train")


def label_lines(store):
    shards = sorted(store.glob("shard-*.jsonl"))
    return sorted(line for shard in shards for line in shard.read_text().splitlines())


def replace_training_masks_by_noise(data):
    """Give every training annotation another mask; images and sentences stay."""
    pickled = (data / "refcoco" / "refs(unc).p").read_bytes()
    refs = pickle.loads(pickled)  # noqa: S301 - written by this run
    training_images = {ref["image_id"] for ref in refs if ref["split"] == "train"}
    path = data / "refcoco" / "instances.json"
    instances = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    replaced = 0
    for annotation in instances["annotations"]:
        if annotation["image_id"] in training_images:
            noise = np.asfortranarray(rng.random((64, 64)) < 0.3, dtype=np.uint8)
            rle = coco_mask.encode(noise)
            annotation["segmentation"] = [{"size": [64, 64], "counts": rle["counts"].decode()}]
            annotation["bbox"] = coco_mask.toBbox(rle).tolist()
            annotation["area"] = int(noise.sum())
            replaced += 1
    path.write_text(json.dumps(instances))
    return replaced


@pytest.fixture(scope="module")
def run_on_noise(finished_run, tmp_path_factory, zygote, run_settings):
    """The pipeline on the same photographs and sentences, the training masks being noise."""
    run = tmp_path_factory.mktemp("noise") / "run"
    run.mkdir()
    shutil.copytree(finished_run / "data", run / "data")
    assert replace_training_masks_by_noise(run / "data") > 100
    for stage in (
        "prepare_data", "pretrain_clip", "train_response", "make_pseudo_labels", "train_segmenter",
    ):  # fmt: skip
        zygote.run(stage, run_settings(run))
    return run


@pytest.mark.parametrize("model", ["clip", "response/model", "segmenter/model"])
def test_weights_are_the_same_when_training_masks_are_noise(
    finished_run, run_on_noise, weights_of, model
):
    assert weights_of(run_on_noise / model) == weights_of(finished_run / model)


def test_labels_are_the_same_when_training_masks_are_noise(finished_run, run_on_noise):
    assert label_lines(run_on_noise / "labels") == label_lines(finished_run / "labels")


def test_the_noise_did_reach_the_index_that_has_masks(finished_run, run_on_noise):
    clean = open_index(finished_run / "index_with_masks", "train")[0]
    noisy = open_index(run_on_noise / "index_with_masks", "train")[0]
    assert clean.sentences == noisy.sentences
    assert clean.mask != noisy.mask


def test_the_bytes_of_the_training_index_hold_no_mask(finished_run):
    training = (finished_run / "index" / "train.arrow").read_bytes()
    with_masks = (finished_run / "index_with_masks" / "train.arrow").read_bytes()
    counts = [
        each.mask["counts"] for each in open_index(finished_run / "index_with_masks", "train")
    ]
    stored = [each.encode() if isinstance(each, str) else each for each in counts]
    assert all(each in with_masks for each in stored)
    assert not any(each in training for each in stored)


def test_the_training_index_is_the_same_when_training_masks_are_noise(finished_run, run_on_noise):
    one, other = ((run / "index" / "train.arrow") for run in (finished_run, run_on_noise))
    assert one.read_bytes() == other.read_bytes()


def run_beyond(run, source, zygote, run_settings):
    """Train with all that goes beyond the paper, on another run's data and CLIP."""
    run.mkdir()
    for part in ("data", "index", "index_with_masks", "clip"):
        (run / part).symlink_to(source / part)
    for stage in BEYOND_STAGES:
        zygote.run(stage, run_settings(run, *BEYOND))
    return run


@pytest.fixture(scope="module")
def beyond(finished_run, run_on_noise, tmp_path_factory, zygote, run_settings):
    """The same recipe where the training masks are true, and where they are noise."""
    folder = tmp_path_factory.mktemp("beyond")
    return [
        run_beyond(folder / name, source, zygote, run_settings)
        for name, source in (("true", finished_run), ("noise", run_on_noise))
    ]


@pytest.mark.parametrize("model", ["response/model", "rounds/1/segmenter/model", "segmenter/model"])
def test_the_recipe_beyond_the_paper_reads_no_mask_either(beyond, weights_of, model):
    one, other = beyond
    assert weights_of(one / model) == weights_of(other / model)


@pytest.mark.parametrize("job", ["rounds/1/segmenter", "segmenter"])
def test_losses_of_the_experiment_join_those_of_the_network(beyond, job):
    lines = (beyond[0] / job / "metrics.jsonl").read_text().splitlines()
    last = {each["key"]: each["value"] for each in map(json.loads, lines)}
    terms = ("mask_loss", "deep_supervision_loss", "referent_loss", "image_dice_loss")
    assert sum(last[f"train/{term}"] for term in terms) == pytest.approx(last["train/loss"])


@pytest.mark.parametrize("store", ["labels", "rounds/2/labels"])
def test_labels_that_compete_read_no_mask_either(beyond, store):
    one, other = (label_lines(run / store) for run in beyond)
    assert len(one) > 100
    assert one == other


def test_image_wise_training_that_was_killed_resumes_to_the_same_weights(
    beyond, tmp_path, zygote, run_settings, weights_of
):
    run = tmp_path / "run"
    run.mkdir()
    for part in ("data", "index", "clip", "response", "labels"):
        (run / part).symlink_to(beyond[0] / part)
    arguments = run_settings(run, *BEYOND, "--segmenter.training.checkpoint-steps=2")
    running = zygote.start("train_segmenter", arguments)
    checkpoint = run / "rounds" / "1" / "segmenter" / "checkpoints" / "step-00000002"
    assert running.signal_once_there(checkpoint, signal.SIGKILL) == [-signal.SIGKILL]
    zygote.run("train_segmenter", arguments)
    name = "rounds/1/segmenter/model"
    assert weights_of(run / name) == weights_of(beyond[0] / name)
