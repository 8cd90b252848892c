import dataclasses
import json
import re
import sys

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from configs.segmenter import dmmi_refcoco_unc, haris_refcoco_unc, tris_refcoco_unc
from tris.batch import InputSpec, SegmenterOutput, TokenizerConfig
from tris.cli import inference
from tris.cli.inference import load_network, make_batch, predict
from tris.cli.predict import main
from tris.data.index import IndexWriter, Referent
from tris.data.masks import decode_mask
from tris.data.tokens import TOKENIZER_FILE, train_word_tokenizer
from tris.encoders.clip import ClipConfig
from tris.encoders.vision_language import VisionLanguageConfig
from tris.metrics.predictions import read_predictions
from tris.metrics.refinement import RefinementConfig
from tris.pseudo.contest import CompetitionConfig
from tris.pseudo.label import make_label
from tris.pseudo.label_presets import SEGMENTER_LABELS
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.grser import GrserConfig
from tris.segmenters.tris_net import TrisNetConfig
from tris.tracking.overlays import draw_refusal

SENTENCES = ["the red circle", "a blue star on the left"]
SPEC = InputSpec(
    image_size=(64, 64),
    tokenizer=TokenizerConfig(kind="file", path=TOKENIZER_FILE, context_length=8),
)
CLIP = ClipConfig(architecture="tris-small", pretrained="", input_spec=SPEC, vocabulary_size=128)
GROUP_WISE = GrserConfig(
    encoder=VisionLanguageConfig(vision="clip", words="clip", clip=CLIP),
    input_spec=dataclasses.replace(SPEC, group_size=2),
    anti_prefix=(5,),
    sentence_token="last",
    feature_channels=16,
    decoder_channels=(16, 8),
    embedding_channels=8,
    inference_margin=0.0,
)
SWIN_AND_BERT = VisionLanguageConfig(
    swin=dmmi_refcoco_unc.DEBUG_SWIN,
    bert=dataclasses.replace(dmmi_refcoco_unc.DEBUG_BERT, vocabulary_size=128),
)
NETWORKS = {
    "stage 1": ResponseNetConfig(encoder=CLIP, input_spec=SPEC, dim=16),
    "stage 2": TrisNetConfig(encoder=CLIP, input_spec=SPEC, decoder_channels=(8, 12, 16, 20)),
    "DMMI": dataclasses.replace(
        dmmi_refcoco_unc.get_debug_config(), encoder=SWIN_AND_BERT, input_spec=SPEC
    ),
    "HARIS": dataclasses.replace(haris_refcoco_unc.get_debug_config(), clip=CLIP, input_spec=SPEC),
}


def save_network(kind, folder):
    torch.manual_seed(0)
    network = NETWORKS.get(kind, GROUP_WISE).build()
    network.assets[TOKENIZER_FILE] = train_word_tokenizer(SENTENCES, vocabulary_size=128)
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, tmp_path_factory):
    return save_network(request.param, tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def photograph(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    path = tmp_path / "cat.png"
    Image.fromarray(noise).save(path)
    return path


def read_image(path):
    with Image.open(path) as image:
        return image.copy()


def run(model, photographs, out, expressions=SENTENCES):
    images = [str(path) for path in photographs]
    asked = ["--image", *images, "--expression", *expressions]
    main(["--model", str(model), *asked, "--out", str(out)])
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_writes_mask_overlay_and_line_per_photograph_and_sentence(model, photograph, tmp_path):
    out = tmp_path / "out"
    records = run(model, [photograph, photograph], out)
    assert [record["expression"] for record in records] == SENTENCES * 2
    names = {record[key] for record in records for key in ("mask_file", "overlay_file")}
    assert {path.name for path in out.iterdir()} == names | {"predictions.jsonl"}
    assert len(names) == 8


def test_mask_file_run_lengths_and_photograph_agree_in_original_pixels(model, photograph, tmp_path):
    for record in run(model, [photograph], tmp_path / "out"):
        mask = np.asarray(read_image(tmp_path / "out" / record["mask_file"]))
        overlay = read_image(tmp_path / "out" / record["overlay_file"])
        assert mask.shape == (37, 53)
        assert overlay.size == (53, 37)
        np.testing.assert_array_equal(decode_mask(record["mask"]) * 255, mask)
        assert record["no_target"] == (not mask.any())


def answer(monkeypatch, *, left_half, absence):
    """Let the network say this of every sentence."""

    def respond(network, batch):
        logits = torch.full((len(batch.token_ids), *batch.images.shape[-2:]), -1.0)
        logits[:, :, :32] = left_half
        return SegmenterOutput(logits, torch.full((len(batch.token_ids),), absence), {})

    monkeypatch.setattr(inference, "respond", respond)


def test_a_refusal_is_counted_and_marked_and_its_mask_stays(
    photograph, tmp_path, monkeypatch, capsys
):
    model = save_network("stage 2", tmp_path / "model")
    refusal = draw_refusal(np.asarray(read_image(photograph)))
    for absence, num_refused in ((-1.0, 0), (1.0, 2)):
        answer(monkeypatch, left_half=1.0, absence=absence)
        records = run(model, [photograph], tmp_path / "out")
        said = f'; "nothing here" is the answer to {num_refused} of them.\n'
        assert capsys.readouterr().out.endswith(said)
        for record in records:
            assert record["no_target"] == (num_refused > 0)
            assert np.asarray(read_image(tmp_path / "out" / record["mask_file"])).any()
            overlay = np.asarray(read_image(tmp_path / "out" / record["overlay_file"]))
            assert (overlay == refusal).all() == (num_refused > 0)


def test_an_empty_mask_is_a_refusal_whatever_the_head_says(photograph, tmp_path, monkeypatch):
    model = save_network("stage 2", tmp_path / "model")
    answer(monkeypatch, left_half=-1.0, absence=-1.0)
    records = run(model, [photograph], tmp_path / "out")
    assert [record["no_target"] for record in records] == [True, True]


def test_a_photograph_has_the_same_masks_by_itself_and_in_a_split(photograph, tmp_path):
    model = save_network("stage 2", tmp_path / "model")
    alone = run(model, [photograph], tmp_path / "alone")
    referent = Referent(1, 1, photograph.name, 37, 53, (0, 1), tuple(SENTENCES), tuple(SENTENCES))
    with IndexWriter(tmp_path / "index", dataset="toy", images=photograph.parent) as writer:
        writer.add("val", referent)
    main(["--model", str(model), "--index", str(tmp_path / "index"), "--out", str(tmp_path / "in")])
    lines = (tmp_path / "in" / "predictions.jsonl").read_text().splitlines()
    for one, other in zip(alone, map(json.loads, lines), strict=True):
        assert one["mask"] == other["mask"]
        assert (one["point"], one["no_target"]) == (other["point"], other["no_target"])


def test_lines_are_read_by_the_scorer(model, photograph, tmp_path):
    records = run(model, [photograph], tmp_path / "out")
    read = [each for _, each in read_predictions(tmp_path / "out" / "predictions.jsonl")]
    assert [list(each.point) for each in read] == [record["point"] for record in records]


def test_second_run_replaces_the_first(model, photograph, tmp_path):
    first = run(model, [photograph], tmp_path / "out")
    assert run(model, [photograph], tmp_path / "out") == first


def test_a_crf_changes_masks_and_leaves_peaks_and_scores_of_the_peak(photograph, tmp_path):
    model = save_network("stage 2", tmp_path / "model")
    plain = run(model, [photograph], tmp_path / "plain")
    arguments = ["--model", str(model), "--image", str(photograph), "--expression", *SENTENCES]
    kernels = ["--refinement.crf.bilateral-srgb", "60", "--refinement.crf.gaussian-sxy", "5"]
    main([*arguments, "--out", str(tmp_path / "crf"), "--crf", *kernels])
    lines = (tmp_path / "crf" / "predictions.jsonl").read_text().splitlines()
    for before, after in zip(plain, map(json.loads, lines), strict=True):
        assert before["point"] == after["point"]
        assert before["scores"]["peak"] == after["scores"]["peak"]
        assert after["mask"]["size"] == before["mask"]["size"]
        assert after["mask"]["counts"] != before["mask"]["counts"]


OFFERED = {
    "normalisation": "max",
    "working-size": "16",
    "components": "highest",
    "crf.unary": "relative",
    "crf.threshold": "0.7",
    "crf.certainty": "0.99",
    "crf.steepness": "0.3",
    "crf.num-iterations": "1",
    "crf.gaussian-sxy": "6",
    "crf.gaussian-compat": "0",
    "crf.bilateral-sxy": "3",
    "crf.bilateral-srgb": "90",
    "crf.bilateral-compat": "0",
}
"""Options of ``--refinement``, each with a value that is not its default."""


def refine(*options):
    """Return the mask that a segmenter's map of noise becomes on a photograph of noise."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    logits = rng.normal(0.2, 3, (24, 32)).astype(np.float32)
    config = tyro.cli(RefinementConfig, args=options)
    return make_label(logits, image, config.label_rule())


@pytest.mark.parametrize("option", OFFERED)
def test_every_setting_of_the_crf_acts(option):
    unary = ["--crf.unary", "hard"] if option == "crf.certainty" else []
    plain = refine(*unary)
    assert 0 < plain.mean() < 1
    assert (refine(*unary, f"--{option}", OFFERED[option]) != plain).any()


def test_no_other_setting_is_offered(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = re.findall(r"--refinement\.(\S+)", capsys.readouterr().out)
    assert sorted(offered) == sorted(OFFERED)


def test_the_crf_is_that_of_a_segmenters_maps_without_competition():
    rule = dataclasses.replace(SEGMENTER_LABELS, degenerate="keep", competition="none")
    assert RefinementConfig().label_rule() == dataclasses.replace(
        rule, competing=CompetitionConfig()
    )


def test_peak_is_the_highest_logit_and_lies_in_a_mask_that_is_not_empty(model, photograph):
    network, tokenizer = load_network(str(model))
    for prediction in predict(network, tokenizer, read_image(photograph), expressions=SENTENCES):
        x, y = prediction.peak
        assert prediction.mask[y, x] == prediction.mask.any()
        assert 0 <= prediction.scores["mask"] <= prediction.scores["peak"] <= 1


def test_sentences_together_equal_sentences_alone(model, photograph):
    network, tokenizer = load_network(str(model))
    image = read_image(photograph)
    together = predict(network, tokenizer, image, expressions=SENTENCES)
    for sentence, joint in zip(SENTENCES, together, strict=True):
        (alone,) = predict(network, tokenizer, image, expressions=[sentence])
        assert alone.scores == pytest.approx(joint.scores, abs=1e-5)


def test_photograph_is_encoded_once_for_all_sentences(model, photograph):
    network, tokenizer = load_network(str(model))
    batch = make_batch(network, tokenizer, read_image(photograph), expressions=SENTENCES)
    assert (len(batch.images), len(batch.token_ids)) == (1, 2)


def test_photograph_is_turned_as_its_exif_says(model, photograph, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    read_image(photograph).save(tmp_path / "turned.jpg", exif=exif)
    (record,) = run(model, [tmp_path / "turned.jpg"], tmp_path / "out", SENTENCES[:1])
    assert record["mask"]["size"] == [53, 37]


BAD_INPUT = {
    "missing photograph": ({"image": "absent.png"}, "absent.png is missing"),
    "unreadable photograph": ({"image": "text.png"}, "text.png cannot be read"),
    "empty expression": ({"expression": "  "}, "An expression is empty"),
    "expression without a word": ({"expression": "?!"}, "An expression is empty"),
    "no model": ({"model": "nowhere"}, "no model directory"),
    "output is a file": ({"out": "text.png"}, "is a file"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    case, model, photograph, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["tris"])
    (tmp_path / "text.png").write_text("no image")
    changes, sentence = BAD_INPUT[case]
    arguments = {"model": str(model), "image": str(photograph), "expression": "star", "out": "out"}
    arguments |= changes
    for name in ("image", "out"):
        arguments[name] = str(tmp_path / arguments[name])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as leaving:
        main([word for name, value in arguments.items() for word in (f"--{name}", value)])
    error = capsys.readouterr().err
    assert leaving.value.code == 2
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_clip_alone_makes_no_masks(photograph, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tris"])
    CLIP.build().save_pretrained(tmp_path / "clip")
    with pytest.raises(SystemExit):
        run(tmp_path / "clip", [photograph], tmp_path / "out")
    assert "holds a ClipEncoder, which makes no masks" in capsys.readouterr().err


def test_the_tokenizer_of_clip_needs_no_file(photograph, tmp_path):
    config = tris_refcoco_unc.get_debug_config()
    encoder = ClipConfig("tris-small", "", config.input_spec, vocabulary_size=49408)
    network = TrisNetConfig(
        encoder=encoder, input_spec=config.input_spec, decoder_channels=(8, 12, 16, 20)
    ).build()
    network.save_pretrained(tmp_path / "model")
    (record,) = run(tmp_path / "model", [photograph], tmp_path / "out", SENTENCES[:1])
    assert record["mask"]["size"] == [37, 53]


@pytest.fixture
def two_photographs(tmp_path):
    paths = [tmp_path / "dog.png", tmp_path / "cow.png"]
    for seed, path in enumerate(paths):
        noise = np.random.default_rng(seed).integers(0, 256, (30 + seed, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return paths


def scores_by_file(records):
    return {(r["image"], r["expression"]): r["scores"]["peak"] for r in records}


def test_a_group_wise_network_looks_at_all_photographs_in_any_order(two_photographs, tmp_path):
    model = save_network("group-wise", tmp_path / "model")
    together = run(model, two_photographs, tmp_path / "together")
    turned = run(model, two_photographs[::-1], tmp_path / "turned")
    alone = run(model, two_photographs[:1], tmp_path / "alone")
    assert [record["expression"] for record in together] == SENTENCES * 2
    assert scores_by_file(together) == pytest.approx(scores_by_file(turned), abs=1e-5)
    own = scores_by_file(alone)
    assert own != pytest.approx({key: scores_by_file(together)[key] for key in own}, abs=1e-7)


def test_a_group_is_cut_where_the_network_says_how_large_it_may_be(
    two_photographs, tmp_path, monkeypatch
):
    one_by_one = dataclasses.replace(GROUP_WISE.input_spec, largest_group=1)
    cut = dataclasses.replace(GROUP_WISE, input_spec=one_by_one)
    monkeypatch.setitem(NETWORKS, "cut", cut)
    together = run(save_network("cut", tmp_path / "model"), two_photographs, tmp_path / "together")
    alone = run(tmp_path / "model", two_photographs[1:], tmp_path / "alone")
    own = scores_by_file(alone)
    found = scores_by_file(together)
    assert len(found) == 4
    assert own == pytest.approx({key: found[key] for key in own}, abs=1e-6)
