"""The search of benchmarks/competing_labels.py, and what unsure_pixels.py counts."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import competing_labels, label_cases, unsure_pixels
from benchmarks.competing_labels import COMPONENTS, change_crf, choose_fields, score, search
from benchmarks.label_cases import (
    Case,
    Settings,
    default_job,
    label_case,
    open_run,
    sentence_cases,
    settings_of,
    stage1_cases,
)
from configs import debug, synthetic
from stages.setup import Folders
from tris.batch import InputSpec, SegmenterOutput, TokenizerConfig
from tris.config import to_json
from tris.data.index import IndexWriter, Referent, open_index
from tris.data.masks import encode_mask
from tris.data.tokens import TOKENIZER_FILE, train_word_tokenizer
from tris.encoders.clip import ClipConfig
from tris.errors import InputError
from tris.pseudo.contest import Contest
from tris.pseudo.label_presets import EMBEDDED_COMPETING_LABELS, EMBEDDED_LABELS
from tris.pseudo.prms import PrmsConfig
from tris.pseudo.rivals import separate_contests
from tris.pseudo.selection import ImageMaps

PARTS = {"one": [SimpleNamespace(referents=[1])], "other": [SimpleNamespace(referents=[2])]}
SPEC = InputSpec((64, 64), resize="pad", tokenizer=TokenizerConfig("file", context_length=8))
TOKENIZER = {TOKENIZER_FILE: train_word_tokenizer(["red box"], vocabulary_size=99)}
CLIP = ClipConfig("tris-small", pretrained="", input_spec=SPEC, vocabulary_size=99)


@pytest.mark.parametrize(("values", "kept"), [((1.0, 30.0), 16.0), ((1.0, 17.0, 30.0), 17.0)])
def test_what_no_value_beats_is_kept(monkeypatch, values, kept):
    def score(cases, settings):
        return np.full(len(cases), 1 / (1 + abs(settings.label.crf.bilateral_sxy - 17.4)))

    monkeypatch.setattr(competing_labels, "score", score)
    given = Settings(PrmsConfig(), EMBEDDED_LABELS)
    assert given.label.crf.bilateral_sxy == 16.0
    found = search(PARTS, given, {"reach": (change_crf("bilateral_sxy"), values)})
    assert found.label.crf.bilateral_sxy == kept


def test_what_is_best_over_all_runs_is_chosen(monkeypatch, capsys):
    def score(cases, settings):
        wanted = {1: 11.0, 2: 14.0}[cases[0].referents[0]]
        loss = abs(settings.label.crf.bilateral_sxy - wanted)
        return np.full(4 - cases[0].referents[0], 1 / (1 + loss))

    monkeypatch.setattr(competing_labels, "score", score)
    given = Settings(PrmsConfig(), EMBEDDED_LABELS)
    found = search(PARTS, given, {"reach": (change_crf("bilateral_sxy"), (11.0, 14.0))})
    assert found.label.crf.bilateral_sxy == 11.0  # three referents against two
    printed = capsys.readouterr().out
    assert "| field | value | one | other | all | below .5 | at 0 | ms per image |" in printed
    assert "| reach | 11.0 | 100.0 | 25.0 | 70.0 | 40.0 | 0.0 |" in printed


def test_fields_are_searched_in_the_order_that_is_asked_for():
    assert list(choose_fields("segmenter", ["steepness", "components"])) == [
        "steepness", "components",
    ]  # fmt: skip
    assert "merging" not in choose_fields("segmenter", None)


def test_a_field_that_these_maps_do_not_have_is_named_with_those_that_they_have():
    with pytest.raises(InputError, match=r"segmenter has no field 'merging'.*it has components"):
        choose_fields("segmenter", ["merging"])


def test_the_search_finds_that_a_referent_is_in_one_piece():
    referent = SimpleNamespace(mask=encode_mask(np.eye(4, dtype=bool)[:1]))
    maps = ImageMaps(
        [SimpleNamespace(response_logits=np.array([[2, -2, 1, -2]], np.float32))],
        separate_contests(1),
    )
    case = Case([referent], np.zeros((1, 4, 3), np.uint8), lambda settings: maps)
    given = Settings(PrmsConfig(), dataclasses.replace(EMBEDDED_LABELS, refiner="threshold"))
    np.testing.assert_array_equal(score([case], given), 0.5)
    fields = {"components": COMPONENTS["components"]}
    assert search({"one": [case]}, given, fields).label.components == "highest"


def test_runs_of_other_settings_are_not_searched_together(tmp_path, monkeypatch):
    for name, config in (("one", debug.get_config()), ("other", synthetic.get_config())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(to_json(config)))
    arguments = ["search", "--run", str(tmp_path / "one"), str(tmp_path / "other")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        competing_labels.main()
    assert caught.value.code == 2


def with_segmenter(**changes):
    config = debug.get_config()
    return dataclasses.replace(config, segmenter=dataclasses.replace(config.segmenter, **changes))


@pytest.mark.parametrize(
    ("changes", "labeller", "last"),
    [
        ({}, "segmenter", "segmenter"),
        ({"rounds": 2}, "rounds/1/segmenter", "segmenter"),
        ({"rounds": 3, "name": "dmmi"}, "rounds/2/segmenter_dmmi", "segmenter_dmmi"),
    ],
)
def test_the_segmenter_is_the_one_that_labelled_for_the_last_round(changes, labeller, last):
    config = with_segmenter(**changes)
    assert default_job(config, "segmenter") == labeller
    assert default_job(config, "sentences") == last


def test_the_search_starts_from_what_the_run_uses():
    config = synthetic.get_config()
    assert settings_of(config, "stage1") == Settings(config.labels.selection, config.labels.label)
    assert settings_of(config, "segmenter").label == config.self_training.label
    assert settings_of(config, "sentences").label == config.evaluation.refinement


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A run on padded photographs that brought its CLIP along, so there is no RUN/clip."""
    run = tmp_path_factory.mktemp("photographs")
    config = debug.get_config()
    response = dataclasses.replace(
        config.response,
        network=dataclasses.replace(config.response.network, encoder=CLIP, input_spec=SPEC, dim=16),
        calibration=dataclasses.replace(config.response.calibration, encoder=CLIP),
    )
    config = dataclasses.replace(config, pretrain=None, response=response)
    (run / "config.json").write_text(json.dumps(to_json(config)))
    torch.manual_seed(0)
    network = response.network.build()
    network.assets = TOKENIZER
    network.save_pretrained(Folders(run).model("response"))
    with IndexWriter(run / "index", dataset="toy", images=run) as writer:
        for number in range(4):
            name = f"{number // 2}.png"
            Image.new("RGB", (100, 50)).save(run / name)
            mask = encode_mask(np.ones((50, 100), bool))
            writer.add("val", Referent(
                number, number // 2, name, 50, 100, (2 * number, 2 * number + 1), ("red", "box"),
                ("red", "box"), annotation_ids=(number,), mask=mask,
            ))  # fmt: skip
    return open_run(run), open_index(run / "index", "val")


def test_maps_of_padded_photographs_cover_the_photograph(photographs):
    stage, index = photographs
    cases = list(stage1_cases(stage, index, 80))
    assert [[each.referent_id for each in case.referents] for case in cases] == [[0, 1], [2, 3]]
    settings = settings_of(stage.config, "stage1")
    for case in cases:
        assert {each.response_logits.shape for each in case.maps(settings).chosen} == {(32, 64)}
        assert {each.label.shape for each in label_case(case, settings).values()} == {(50, 100)}


def test_single_sentences_are_asked_as_at_test(photographs, monkeypatch):
    stage, index = photographs

    def network(batch):
        return SegmenterOutput(torch.ones(len(batch.token_ids), 64, 64), None, {})

    network.input_spec, network.assets = SPEC, TOKENIZER
    network.to = lambda memory_format: network
    fake = SimpleNamespace(from_pretrained=lambda folder: network)
    monkeypatch.setattr(label_cases, "Segmenter", fake)
    cases = list(sentence_cases(stage, "segmenter", index, 80))
    assert [len(case.referents) for case in cases] == [4, 4]
    settings = settings_of(stage.config, "sentences")
    label = dataclasses.replace(settings.label, degenerate="keep")
    np.testing.assert_array_equal(score(cases, dataclasses.replace(settings, label=label)), 1)


def test_unsure_pixels_are_counted_over_everyone_who_is_labelled():
    masks = [np.array([[1, 1, 0, 0]], bool), np.array([[0, 0, 0, 1]], bool)]
    referents = [SimpleNamespace(mask=encode_mask(mask)) for mask in masks]
    rows = [[9, 0.5, -9, -9], [-9, 1.0, -9, 9]]
    chosen = [
        SimpleNamespace(response_logits=np.array([row], np.float32), score=score)
        for row, score in zip(rows, (0.3, 0.7), strict=True)
    ]
    maps = ImageMaps(chosen, [Contest(((0,), (1,)), 2)])
    case = Case(referents, np.zeros((1, 4, 3), np.uint8), lambda settings: maps)
    label = dataclasses.replace(EMBEDDED_COMPETING_LABELS, refiner="threshold")
    found = unsure_pixels.measure_contests([case], Settings(PrmsConfig(), label))
    np.testing.assert_array_equal(found.is_wrong, [False, True, False, False])
    np.testing.assert_array_equal(found.confidence < 0.6, [False, True, False, False])
    np.testing.assert_array_equal(found.iou, [0.5, 0.5])
    np.testing.assert_array_equal(found.score, [0.3, 0.7])


@pytest.mark.parametrize(
    ("values", "area"), [([1, 2, 3, 4], 1), ([4, 3, 2, 1], 0), ([5, 5, 5, 5], 0.5)]
)
def test_the_area_under_the_curve_is_how_often_right_ones_rank_above_wrong_ones(values, area):
    is_right = np.array([False, False, True, True])
    assert unsure_pixels.area_under_curve(is_right, np.array(values)) == area
