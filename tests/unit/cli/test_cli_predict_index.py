"""Predictions for a whole split; CoCA's format end to end, as GRSer is asked of it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from configs.segmenter import grser_synthetic
from tris.batch import TokenizerConfig
from tris.cli.predict import main as predict
from tris.cli.prepare import main as prepare
from tris.cli.score import main as score
from tris.data.index import open_index
from tris.data.tokens import TOKENIZER_FILE, train_word_tokenizer
from tris.metrics.evaluator import Prediction, to_line
from tris.metrics.rle import to_dense
from tris.metrics.saliency import decode_saliency

CATEGORIES = {"Teddy_bear": 3, "banana": 2}


@pytest.fixture(scope="module")
def coca(tmp_path_factory):
    """Photographs and masks as CoCA has them, prepared by category."""
    root, rng = tmp_path_factory.mktemp("coca"), np.random.default_rng(0)
    for category, count in CATEGORIES.items():
        for number in range(count):
            for folder, kind in (("image", "jpg"), ("binary", "png")):
                (root / folder / category).mkdir(parents=True, exist_ok=True)
                shape = (30, 40, 3) if kind == "jpg" else (30, 40)
                pixels = rng.integers(0, 256, shape, dtype=np.uint8)
                if kind == "png":
                    pixels = np.where(np.arange(40) < 20, np.uint8(255), np.uint8(0)) + 0 * pixels
                Image.fromarray(pixels).save(root / folder / category / f"{number}.{kind}")
    prepare(
        ["coca", "--source", str(root), "--images", str(root / "image"),
         "--out", str(root / "index")]
    )  # fmt: skip
    return root / "index"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    base = grser_synthetic.get_debug_config()
    tokenizer = TokenizerConfig(kind="file", path=TOKENIZER_FILE, context_length=8)
    spec = dataclasses.replace(base.input_spec, tokenizer=tokenizer)
    network = dataclasses.replace(
        base, input_spec=spec, has_response_input=False, response=None, inference_margin=-100.0,
        encoder=dataclasses.replace(
            base.encoder, clip=dataclasses.replace(base.encoder.clip, vocabulary_size=128)
        ),
    ).build()  # fmt: skip
    network.assets[TOKENIZER_FILE] = train_word_tokenizer(["teddy bear"], vocabulary_size=128)
    folder = tmp_path_factory.mktemp("models") / "model"
    network.save_pretrained(folder)
    return folder


def test_categories_are_asked_of_their_photographs_and_scored_as_saliency(
    coca, model, tmp_path, capsys
):
    out = tmp_path / "out"
    predict(["--model", str(model), "--index", str(coca), "--split", "test", "--out", str(out)])
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == sum(CATEGORIES.values())
    num_refused = sum(line["no_target"] for line in lines)
    assert f'; "nothing here" is the answer to {num_refused} of them.' in capsys.readouterr().out
    score(
        ["--index", str(coca), "--split", "test", "--predictions", str(out / "predictions.jsonl"),
         "--protocol", "grser", "--json", str(tmp_path / "scores.json")]
    )  # fmt: skip
    scores = json.loads((tmp_path / "scores.json").read_text())
    for name in ("mae", "max_f_measure", "s_measure", "mean_e_measure", "adapted_mean_iou"):
        assert 0 <= scores[name] <= 1
    assert {each.sentences for each in open_index(coca, "test")} == {("teddy bear",), ("banana",)}


def test_saliency_is_scored_as_it_was_predicted(coca, model, tmp_path):
    command = ["--model", str(model), "--index", str(coca), "--split", "test"]
    predict([*command, "--saliency", "--out", str(tmp_path)])
    file = tmp_path / "predictions.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    maps = [decode_saliency(line["saliency"], (30, 40)) for line in lines]
    pairs = [(grey, line["mask"]) for grey, line in zip(maps, lines, strict=True) if line["mask"]]
    assert pairs
    for grey, mask in pairs:
        assert len(np.unique(grey)) > 2
        assert (to_dense(mask) == (grey > 127)).mean() > 0.99
    truth = np.arange(40) < 20
    stretched = [(grey - grey.min()) / (grey.max() - grey.min()) for grey in maps]
    expected = np.mean([np.abs(each - truth).mean() for each in stretched])
    scored = ["--index", str(coca), "--split", "test", "--json", str(tmp_path / "scores.json")]
    score([*scored, "--predictions", str(file), "--protocol", "grser"])
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["mae"] == pytest.approx(expected, abs=0.01)


def test_saliency_is_black_where_nothing_fits(coca):
    referent = next(iter(open_index(coca, "test")))
    response = np.linspace(-1, 1, 30 * 40, dtype=np.float32).reshape(30, 40)
    for no_target, highest in ((False, 186), (True, 0)):
        line = to_line(Prediction(referent, 0, response, no_target), with_saliency=True)
        assert decode_saliency(line["saliency"], (30, 40)).max() == highest


REFUSED = {
    "saliency of photographs": (["--saliency"], "--saliency is for a whole split"),
    "a split of photographs": (["--split", "val"], "--split is of an index"),
    "a refinement without a CRF": (["--refinement.working-size", "64"], "give --crf, too"),
    "its default without a CRF": (["--refinement.crf.threshold=0.5"], "give --crf, too"),
    "an index and photographs": (["--index", "index"], "An index brings its own photographs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_do_not_go_together_are_refused(case, tmp_path, capsys):
    arguments, sentence = REFUSED[case]
    asked = ["--model", "absent", "--image", "a.png", "--expression", "x", *arguments]
    with pytest.raises(SystemExit) as caught:
        predict([*asked, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_crf_changes_the_masks_of_a_split_and_no_peak(coca, model, tmp_path):
    command = ["--model", str(model), "--index", str(coca), "--split", "test"]
    kernels = ["--refinement.crf.bilateral-srgb", "60", "--refinement.crf.gaussian-sxy", "5"]
    file = "predictions.jsonl"
    predict([*command, "--out", str(tmp_path / "plain")])
    predict([*command, "--out", str(tmp_path / "crf"), "--crf", *kernels])
    plain, refined = (
        [json.loads(line) for line in (tmp_path / name / file).read_text().splitlines()]
        for name in ("plain", "crf")
    )
    assert [each["point"] for each in plain] == [each["point"] for each in refined]
    assert [each["expression_id"] for each in plain] == [each["expression_id"] for each in refined]
    assert [each["mask"] for each in plain] != [each["mask"] for each in refined]
    scored = ["--index", str(coca), "--split", "test", "--json", str(tmp_path / "scores.json")]
    score([*scored, "--predictions", str(tmp_path / "crf" / file)])
    assert 0 <= json.loads((tmp_path / "scores.json").read_text())["mean_iou"] <= 1
