"""No mask of the training split may reach a label or a weight."""

import json
import pickle
import shutil

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tris.data.index import open_index

pytestmark = pytest.mark.slow


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
    def lines(run):
        shards = sorted((run / "labels").glob("shard-*.jsonl"))
        return sorted(line for shard in shards for line in shard.read_text().splitlines())

    assert lines(run_on_noise) == lines(finished_run)


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
