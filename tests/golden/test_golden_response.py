"""The stage-1 network and its losses against numbers of the released implementation."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tris.batch import Batch, InputSpec
from tris.encoders.clip import ClipConfig
from tris.response.bilateral_prompt import BilateralPrompt
from tris.response.calibration import CalibrationConfig, Calibrator
from tris.response.classification import ClassificationConfig, classification_loss, score_images
from tris.response.released import released_key, released_prompt_key
from tris.response.response_net import ResponseNet, ResponseNetConfig

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def fill_rule(reference: Path):
    spec = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fill(module, fill_rule, rename):
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point() and value.ndim > 0:
                value.copy_(torch.from_numpy(fill_rule.value(rename(key), tuple(value.shape))))
    return module


@pytest.mark.parametrize("texts", [1, 3])
def test_bilateral_prompt_equals_the_released_one(golden: Path, fill_rule, texts: int):
    numbers = np.load(golden / "tris_modules_golden.npz")
    prompt = fill(BilateralPrompt(64), fill_rule, lambda key: f"bp.{released_prompt_key(key)}")
    visual = torch.from_numpy(numbers[f"bp_N{texts}_vis_in"])
    words = torch.from_numpy(numbers[f"bp_N{texts}_lan_in_BCN"]).transpose(1, 2).contiguous()
    expected_visual = torch.from_numpy(numbers[f"bp_N{texts}_newvis"])
    expected_text = torch.from_numpy(numbers[f"bp_N{texts}_newlan_BNC"])
    for alone in {False, texts == 1}:
        prompted = prompt.prompt_pixels(visual, words, alone=alone)[:, 0].expand_as(visual)
        torch.testing.assert_close(prompted, expected_visual, atol=1e-4, rtol=0)
    torch.testing.assert_close(prompt.prompt_texts(visual, words), expected_text, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def numbers(golden: Path):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(
        golden / "tris_stage1_golden.npz").items()}  # fmt: skip


@pytest.fixture(scope="module")
def network(fill_rule) -> ResponseNet:
    config = ResponseNetConfig(encoder=ClipConfig(pretrained=""))
    return fill(config.build(), fill_rule, released_key).eval()


@pytest.fixture(scope="module")
def batch(numbers, fill_rule) -> Batch:
    images = torch.from_numpy(fill_rule.image(int(numbers["img_seed"]), (2, 3, 320, 320)))
    index = torch.arange(2)
    return Batch(
        images=images,
        image_id=index,
        original_size=torch.full((2, 2), 320),
        content_size=torch.full((2, 2), 320),
        token_ids=numbers["word_ids"],
        token_mask=numbers["word_ids"] > 0,
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index,
        is_no_target=torch.zeros(2, dtype=torch.bool),
        group_index=torch.zeros(2, dtype=torch.long),
        negative_token_ids=numbers["neg_word_ids"],
        negative_token_mask=numbers["neg_word_ids"] > 0,
    )


def test_the_clip_towers_equal_the_released_ones(network: ResponseNet, batch: Batch, numbers):
    with torch.no_grad():
        pyramid = network.encoder.encode_pyramid(batch.images)
        words, sentences = network.encoder.encode_words(batch.token_ids)
    for level, features in enumerate(pyramid, start=1):
        torch.testing.assert_close(
            features[:, :4, ::4, ::4], numbers[f"c{level}_c4_s4"], atol=1e-4, rtol=0
        )
    torch.testing.assert_close(words[..., :16], numbers["text_word_c16"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sentences, numbers["text_hidden"], atol=1e-4, rtol=0)


def test_every_expression_alone_equals_batches_of_one(network: ResponseNet, batch: Batch, numbers):
    with torch.no_grad():
        response = network(batch).response_logits
    expected = numbers["eval_B1_lowres_prerelu"][:, 0]
    torch.testing.assert_close(response, expected, atol=1e-4, rtol=0)
    full = functional.interpolate(response[:, None], 320, mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        full.relu()[..., ::4, ::4], numbers["eval_B1_out_stride4"], atol=1e-4, rtol=0
    )


def test_all_pairs_equal_the_released_batch_of_two(network: ResponseNet, batch: Batch, numbers):
    with torch.no_grad():
        maps = network(batch, all_pairs=True)
    expected = numbers["eval_B2_lowres_prerelu"][:, 0]
    torch.testing.assert_close(maps.response_logits, expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def judge(fill_rule) -> Calibrator:
    config = CalibrationConfig(encoder=ClipConfig("ViT-B-32-quickgelu", pretrained=""))
    encoder = config.encoder.build()
    fill(encoder.clip, fill_rule, lambda key: f"aux.{key}")
    return Calibrator(encoder, config)


def test_losses_and_gradients_equal_the_released_ones(
    network: ResponseNet, judge: Calibrator, batch: Batch, numbers, golden: Path
):
    network.train()
    network.zero_grad()
    maps = network(batch, all_pairs=True)
    classification = ClassificationConfig()
    scores = score_images(maps.pairs.logits, classification)
    torch.testing.assert_close(scores, numbers["train_cls_scores"], atol=1e-3, rtol=0)
    loss = classification_loss(maps.pairs, classification)
    torch.testing.assert_close(loss, numbers["cls_loss"], atol=1e-4, rtol=0)
    terms = judge(maps.response_logits, batch, input_spec=InputSpec())
    positive, negative = (
        terms["calibration_positive_loss"], terms["calibration_negative_loss"] / 2
    )  # fmt: skip
    torch.testing.assert_close(positive, numbers["fg_loss"], atol=1e-3, rtol=0)
    torch.testing.assert_close(negative, numbers["cal_loss"], atol=1e-4, rtol=0)
    total = 5 * loss + sum(terms.values())
    torch.testing.assert_close(total, numbers["total_loss"], atol=1e-3, rtol=0)
    total.backward()
    _check_gradient_norms(network, json.loads((golden / "tris_stage1_gradnorm.json").read_text()))
    network.eval()


def _check_gradient_norms(network: ResponseNet, expected: dict[str, float | None]) -> None:
    """The stored norms are of float32 under batch norm of two images: the same gradients in float64
    differ from them by up to 4.4e-3 in the stem, and float32 moves with the number of threads."""
    parameters = {released_key(name): value for name, value in network.named_parameters()}
    assert set(parameters) == set(expected)
    for name, norm in expected.items():
        gradient = parameters[name].grad
        if norm is None:
            assert gradient is None, name
        else:
            assert float(gradient.norm()) == pytest.approx(norm, rel=1e-2, abs=1e-3), name
