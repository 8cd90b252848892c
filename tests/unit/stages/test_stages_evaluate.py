"""What an evaluation takes from a segmenter: masks, and whether it says that nothing fits."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs import debug
from stages import evaluate, validation
from stages.evaluate import keep_predictions
from stages.evaluate_labels import count_refined
from stages.prepare_data import prepare
from stages.setup import Folders, Stage
from tris.batch import SegmenterOutput
from tris.data.index import open_index
from tris.data.tokens import TOKENIZER_FILE, train_word_tokenizer
from tris.metrics.evaluator import count_predictions
from tris.metrics.rows import column
from tris.pseudo.label import PseudoLabel


class Refuser:
    """Marks everything, and says of the last sentence of each batch that nothing fits."""

    def __init__(self, spec):
        self.input_spec = spec
        self.assets = {TOKENIZER_FILE: train_word_tokenizer(["red"], vocabulary_size=99)}

    def to(self, device):
        return self

    def __call__(self, batch):
        number, size = len(batch.token_ids), batch.images.shape[-2:]
        absence = torch.full((number,), -1.0)
        absence[-1] = 1.0
        return SegmenterOutput(torch.ones(number, *size), absence, {})


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    config = debug.get_config()
    synthetic = dataclasses.replace(
        config.data.synthetic, num_train_images=1, num_val_images=1, num_test_images=1
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, synthetic=synthetic))
    accelerator = SimpleNamespace(
        process_index=0, num_processes=1, is_main_process=True, device=torch.device("cpu")
    )
    run = tmp_path_factory.mktemp("evaluate") / "run"
    stage = Stage(config, Folders(run), None, accelerator, frozenset({"predictions"}))
    prepare(stage)
    return stage


@pytest.fixture
def predictions(stage, monkeypatch):
    spec = stage.config.segmenter.network.input_spec
    fake = SimpleNamespace(from_pretrained=lambda folder: Refuser(spec))
    monkeypatch.setattr(validation, "Segmenter", fake)
    index = open_index(stage.folders.index, "val")
    return list(validation.predict_job(stage, "segmenter", index))


def test_a_head_that_says_nothing_fits_is_heard(predictions):
    assert [each.no_target for each in predictions] == [False] * (len(predictions) - 1) + [True]


def test_predictions_on_disk_say_what_the_head_said(stage, predictions):
    index = open_index(stage.folders.index, "val")
    list(keep_predictions(stage, iter(predictions), index))
    file = stage.folders.run / "predictions" / "val-0.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["no_target"] for line in lines] == [each.no_target for each in predictions]


def test_a_split_of_a_generalized_data_set_is_predicted_once(stage, predictions, monkeypatch):
    index, asked = open_index(stage.folders.index, "val"), []

    def predict_job(stage, job, index):
        asked.append(job)
        return iter(predictions)

    monkeypatch.setattr(evaluate, "predict_job", predict_job)
    jobs = [("segmenter", "segmenter_mabp"), ("ceiling", "ceiling_mabp")]
    monkeypatch.setattr(evaluate, "trained_jobs", lambda stage: iter(jobs))
    rows = count_predictions(predictions)
    known = {
        (index.directory, "val", "segmenter"): rows,
        (index.directory, "test", "ceiling"): rows,
    }
    found = dict(evaluate.evaluate_trained(stage, index, known))
    assert asked == ["ceiling_mabp"]
    for name, _ in jobs:
        np.testing.assert_array_equal(found[name], rows)


def test_a_crf_at_test_does_not_silence_the_head(predictions):
    refused = predictions[-1]
    label = PseudoLabel(np.ones(refused.response.shape, np.uint8), "whole")
    assert column(count_refined(refused, label), "predicted_no_target").tolist() == [1]
