"""What an evaluation takes from a segmenter: masks, and whether it says that nothing fits."""

import dataclasses
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from configs import debug
from stages import evaluate, evaluate_labels, train_response, train_segmenter, validation
from stages.evaluate import keep_predictions
from stages.evaluate_labels import count_label, count_refined, credit, score_with_crf
from stages.labelling import count_workers
from stages.loading import make_dataset
from stages.prepare_data import prepare
from stages.setup import Folders, Stage
from tris.batch import SegmenterOutput
from tris.data.images import read_photograph
from tris.data.index import IndexWriter, Referent, open_index
from tris.data.masks import decode_mask, empty_rle, encode_mask
from tris.data.tokens import TOKENIZER_FILE, build_tokenizer, train_word_tokenizer
from tris.errors import InputError
from tris.metrics.baselines import BASELINES, predict_baseline
from tris.metrics.evaluator import Prediction, count_predictions, count_shared
from tris.metrics.predictions import read_predictions
from tris.metrics.refinement import refine_predictions
from tris.metrics.rows import column
from tris.metrics.scorer import Scorer
from tris.metrics.summary import compute_metrics
from tris.pseudo.label import PseudoLabel, label_referent
from tris.pseudo.label_presets import EMBEDDED_COMPETING_LABELS, EMBEDDED_LABELS
from tris.pseudo.selection import ChosenMap
from tris.training.settings import TrainingConfig


class Refuser:
    """Marks everything, and says of the last sentence of each batch that nothing fits."""

    def __init__(self, spec):
        self.input_spec = spec
        self.assets = {TOKENIZER_FILE: train_word_tokenizer(["red"], vocabulary_size=99)}

    def to(self, device=None, *, memory_format=None):
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
        process_index=0, num_processes=1, is_main_process=True, device=torch.device("cpu"),
        wait_for_everyone=lambda: None,
    )  # fmt: skip
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


@pytest.fixture
def keep(stage, predictions):
    """Return a function that keeps shares of the predictions, one of each process.

    The main process is the first to be done; the others work while it waits for them.
    """
    index = open_index(stage.folders.index, "val")
    folder = stage.folders.run / "predictions"

    def keep(shares):
        def run(process, wait):
            accelerator = SimpleNamespace(
                process_index=process, num_processes=len(shares), is_main_process=process == 0,
                wait_for_everyone=wait,
            )  # fmt: skip
            part = dataclasses.replace(stage, accelerator=accelerator)
            share = [predictions[number] for number in shares[process]]
            assert list(keep_predictions(part, iter(share), index)) == share

        def run_others():
            for process in range(1, len(shares)):
                run(process, lambda: None)

        run(0, run_others)
        (path,) = folder.iterdir()
        assert path.name == "val.jsonl"
        return path

    yield keep
    shutil.rmtree(folder)


def test_predictions_on_disk_say_what_the_head_said(keep, predictions):
    lines = [json.loads(line) for line in keep([range(len(predictions))]).read_text().splitlines()]
    said = {each.referent.expression_ids[each.position]: each.no_target for each in predictions}
    assert {line["expression_id"]: line["no_target"] for line in lines} == said


def test_predictions_of_any_number_of_processes_are_one_file_that_can_be_scored(
    stage, keep, predictions
):
    numbers = range(len(predictions))
    whole = keep([numbers]).read_bytes()
    path = keep([numbers[2::3], numbers[0::3], numbers[1::3], []])
    assert path.read_bytes() == whole
    scorer = Scorer(open_index(stage.folders.index, "val"))
    for _, each in read_predictions(path):
        scorer.add(each)
    assert scorer.missing() == []


def test_predictions_that_two_processes_made_are_written_once(keep, predictions):
    numbers = range(len(predictions))
    assert len(keep([numbers, numbers[:2]]).read_text().splitlines()) == len(predictions)


def test_parts_that_a_killed_evaluation_left_are_removed_unread(stage, keep, predictions):
    folder = stage.folders.run / "predictions"
    folder.mkdir()
    for process in range(3):
        (folder / f"val-{process}.part").write_text("torn")
    assert len(keep([range(len(predictions))]).read_text().splitlines()) == len(predictions)


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


@pytest.fixture
def index_with_none(tmp_path):
    """Two sentences about half of the photograph, then one about nothing."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "a.png")
    half = encode_mask((np.arange(10) < 5) & np.ones((10, 10), bool))
    with IndexWriter(tmp_path / "index", dataset="toy", images=tmp_path / "images") as writer:
        for number in (1, 2, 3):
            is_none = number == 3
            writer.add("val", Referent(
                number, 1, "a.png", 10, 10, (number,), ("red",), ("red",), is_no_target=is_none,
                annotation_ids=() if is_none else (number,),
                mask=empty_rle(10, 10) if is_none else half,
            ))  # fmt: skip
    return open_index(tmp_path / "index", "val")


def validate(stage, index):
    network = Refuser(stage.config.segmenter.network.input_spec)
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    dataset = make_dataset(stage, index, network.input_spec, tokenizer)
    return validation.validate(stage, network, dataset)


def test_validation_looks_at_refusals_where_sentences_may_mean_nothing(stage, index_with_none):
    found = validate(stage, index_with_none)
    assert (found["no_target_accuracy"], found["target_accuracy"]) == (1, 1)
    assert found["generalized_mean_iou"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found["mean_iou"] == 0.5


def test_validation_of_other_splits_is_of_masks_alone_but_hears_the_head(stage, predictions):
    found = validate(stage, open_index(stage.folders.index, "val"))
    assert set(found) == set(validation.LOGGED)
    assert found["mean_iou"] == pytest.approx(
        compute_metrics(count_predictions(predictions))["mean_iou"]
    )


def selecting(stage, select, *, every=0, **data):
    training = TrainingConfig(select=select, evaluate_every=every)
    config = stage.config
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **data),
        response=dataclasses.replace(config.response, training=training),
    )
    return dataclasses.replace(stage, config=config), training


def test_weights_are_selected_by_what_the_validation_split_can_say(stage, index_with_none):
    plain = open_index(stage.folders.index, "val")
    validation.check_selection(*selecting(stage, "mean_iou"), plain)
    validation.check_selection(*selecting(stage, "generalized_mean_iou"), index_with_none)
    validation.check_selection(*selecting(stage, "generalized_mean_iou", dataset="grefcoco"), plain)


def test_nothing_is_selected_that_is_never_scored(stage):
    plain = open_index(stage.folders.index, "val")
    validation.check_selection(*selecting(stage, "last", every=None), plain)
    with pytest.raises(InputError, match="evaluate_every=None nothing is scored to select by"):
        validation.check_selection(*selecting(stage, "mean_iou", every=None), plain)


def test_a_split_without_masks_is_not_scored(stage, monkeypatch):
    """Empty masks would be right everywhere."""
    train = open_index(stage.folders.index, "train")
    assert not train.has_masks
    for select, every in (("mean_iou", 0), ("last", 3)):
        with pytest.raises(InputError, match=r"'train' of .* has rows without masks"):
            validation.check_selection(*selecting(stage, select, every=every), train)
    validation.check_selection(*selecting(stage, "last", every=None), train)
    data = dataclasses.replace(stage.config.data, evaluation_splits=("train",))
    config = dataclasses.replace(stage.config, data=data)
    unscored = dataclasses.replace(stage, config=config)
    monkeypatch.setattr(evaluate, "start_stage", lambda *_, **__: unscored)
    with pytest.raises(InputError, match=r"'train' of .* has rows without masks"):
        evaluate.main.__wrapped__()


def test_what_cannot_be_computed_is_refused_before_training(stage):
    stage, training = selecting(stage, "generalized_mean_iou")
    message = "'val' .* has no sentence about nothing: select mean_iou"
    with pytest.raises(InputError, match=message):
        train_response.train(stage, stage.config, {})
    with pytest.raises(InputError, match=message):
        train_segmenter.train(stage, SimpleNamespace(training=training), {})


def test_a_crf_at_test_does_not_silence_the_head(predictions):
    refused = predictions[-1]
    label = PseudoLabel(np.ones(refused.response.shape, np.uint8), "whole")
    assert column(count_refined(refused, label), "predicted_no_target").tolist() == [1]


@pytest.fixture(scope="module")
def referent(stage):
    return open_index(stage.folders.index, "val")[0]


def every_sentence(referent):
    return list(referent.expression_ids)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_label_counts_for_every_sentence_and_ignored_pixels_are_no_foreground(referent, value):
    label = np.full((referent.height, referent.width), value, np.uint8)
    rows = count_label(referent, PseudoLabel(label, "sound"))
    assert column(rows, "expression_id").tolist() == every_sentence(referent)
    assert column(rows, "sequence_id").tolist() == every_sentence(referent)
    assert set(column(rows, "prediction_area")) == {label.size if value == 1 else 0}
    assert set(column(rows, "target_area")) == {int(decode_mask(referent.mask).sum())}


def test_a_label_that_was_dropped_found_nothing(referent):
    rows = count_label(referent, PseudoLabel(None, "empty"))
    assert column(rows, "expression_id").tolist() == every_sentence(referent)
    assert set(column(rows, "prediction_area")) == {0}


def test_a_chosen_map_is_credited_to_every_sentence(referent):
    logits = np.full((6, 5), -1.0, np.float32)
    logits[2, 3] = 2.0
    rows = count_shared([credit(ChosenMap(referent, 1, 0.5, logits))])
    assert column(rows, "expression_id").tolist() == every_sentence(referent)
    assert len(set(column(rows, "prediction_area"))) == 1


def test_beside_crf_workers_the_network_takes_one_thread(stage, predictions, monkeypatch):
    before, seen = torch.get_num_threads(), []

    def watched():
        for each in predictions:
            seen.append(torch.get_num_threads())
            yield each

    torch.set_num_threads(2)
    monkeypatch.setattr(evaluate_labels, "count_workers", lambda stage: 0)
    plain, refined = score_with_crf(stage, watched(), open_index(stage.folders.index, "val"))
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (set(seen), after) == ({1}, 2)
    assert len(plain) == len(refined) == len(predictions)


@pytest.mark.parametrize(
    ("cores", "siblings", "device", "wanted", "count"),
    [
        (4, 1, "cpu", 0, 4), (4, 2, "cpu", 0, 2), (4, 4, "cpu", 0, 0), (1, 1, "cpu", 0, 0),
        (2, 8, "cpu", 0, 0), (4, 4, "cuda", 0, 1), (4, 4, "cpu", 3, 3),
    ],
)  # fmt: skip
def test_crf_workers_take_the_cores_that_the_processes_leave(
    stage, monkeypatch, cores, siblings, device, wanted, count
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(siblings))
    labels = dataclasses.replace(stage.config.labels, num_workers=wanted)
    config = dataclasses.replace(stage.config, labels=labels)
    accelerator = SimpleNamespace(device=torch.device(device))
    asked = dataclasses.replace(stage, config=config, accelerator=accelerator)
    assert count_workers(asked) == count


def test_a_crf_at_test_answers_each_sentence_alone_in_order(stage):
    index = open_index(stage.folders.index, "test")
    generator = np.random.default_rng(0)
    predictions = [
        Prediction(each, position, generator.normal(size=(each.height, each.width)))
        for each in (*index, index[0])
        for position in range(len(each.sentences))
    ]
    refined = list(refine_predictions(predictions, index, EMBEDDED_COMPETING_LABELS, num_workers=0))
    assert [each for each, _ in refined] == predictions
    rule = dataclasses.replace(EMBEDDED_LABELS, degenerate="keep")
    for each, label in refined:
        photograph = np.asarray(read_photograph(index.image_path(each.referent)))
        expected = label_referent(each.response, photograph, rule)
        np.testing.assert_array_equal(label.label, expected.label)
        assert label.degeneracy == expected.degeneracy


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_scored_on_every_sentence_whatever_the_number_of_processes(stage, name):
    index = open_index(stage.folders.index, "val")
    rows = count_shared(predict_baseline(name, index))
    expected = [each for referent in index for each in referent.expression_ids]
    assert column(rows, "expression_id").tolist() == expected
    halves = [
        count_shared(predict_baseline(name, index, process_index=part, num_processes=2))
        for part in (0, 1)
    ]
    assert sorted(map(tuple, np.concatenate(halves))) == sorted(map(tuple, rows))
