"""Classification and calibration on small numbers worked out by hand or by plain NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tris.batch import PairResponses
from tris.response.calibration import (
    CalibrationConfig,
    Calibrator,
    negative_loss,
    positive_loss,
)
from tris.response.classification import (
    ClassificationConfig,
    classification_loss,
    score_images,
)


def make_pairs(logits, *, image_id, text_image_id, referent_id, text_id) -> PairResponses:
    own = torch.eye(len(image_id), len(text_id), dtype=torch.bool)
    return PairResponses(
        logits=logits,
        image_id=torch.tensor(image_id),
        text_image_id=torch.tensor(text_image_id),
        referent_id=torch.tensor(referent_id),
        text_id=torch.tensor(text_id),
        is_own=own,
    )


def numpy_scores(logits: np.ndarray) -> np.ndarray:
    images, texts = logits.shape[:2]
    flat = logits.reshape(images, texts, -1)
    with_background = np.concatenate([np.ones_like(flat[:, :1]), flat], axis=1)
    shares = np.exp(with_background) / np.exp(with_background).sum(1, keepdims=True)
    size = shares[:, 1:].mean(-1)
    return flat.mean(-1) + flat.max(-1) + (1 - size) ** 3 * np.log(0.01 + size)


def test_scores_are_mean_plus_maximum_plus_size_term():
    logits = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    expected = numpy_scores(logits.numpy())
    scores = score_images(logits, ClassificationConfig())
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)


def numpy_loss(scores: np.ndarray, positive: np.ndarray, counted: np.ndarray) -> float:
    per_pair = np.where(positive, np.log1p(np.exp(-scores)), np.log1p(np.exp(scores)))
    return float(((per_pair * counted).sum(1) / counted.sum(1)).mean())


@pytest.mark.parametrize(
    ("changes", "ignored"),
    [
        ({"text_id": [1, 2, 1]}, [(0, 2), (2, 0)]),
        ({"referent_id": [7, 8, 7], "image_id": [10, 11, 10], "text_image_id": [10, 11, 10]},
         [(0, 2), (2, 0)]),
        ({"image_id": [10, 10, 12], "text_image_id": [10, 10, 12]}, [(0, 1), (1, 0)]),
        ({}, []),
    ],
    ids=["equal texts", "same object", "same image", "all different"],
)  # fmt: skip
def test_texts_that_fit_the_image_are_no_negatives(changes, ignored):
    facts = {
        "image_id": [10, 11, 12],
        "text_image_id": [10, 11, 12],
        "referent_id": [7, 8, 9],
        "text_id": [1, 2, 3],
    } | changes
    logits = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    counted = np.ones((3, 3), dtype=bool)
    for pair in ignored:
        counted[pair] = False
    expected = numpy_loss(numpy_scores(logits.numpy()), np.eye(3, dtype=bool), counted)
    loss = classification_loss(make_pairs(logits, **facts), ClassificationConfig())
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_released_behaviour_counts_every_other_text_as_a_negative():
    released = ClassificationConfig(same_image="negative", equal_texts_are_negatives=True)
    logits = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    pairs = make_pairs(
        logits, image_id=[10, 10, 10], text_image_id=[10] * 3, referent_id=[7] * 3, text_id=[1] * 3
    )
    expected = torch.nn.functional.multilabel_soft_margin_loss(
        score_images(logits, released), torch.eye(3)
    )
    torch.testing.assert_close(classification_loss(pairs, released), expected)


def test_other_objects_of_the_image_can_be_positives():
    config = ClassificationConfig(same_image="positive")
    logits = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(2))
    pairs = make_pairs(
        logits, image_id=[5, 5], text_image_id=[5, 5], referent_id=[1, 2], text_id=[1, 2]
    )
    everything = np.ones((2, 2), dtype=bool)
    expected = numpy_loss(numpy_scores(logits.numpy()), everything, everything)
    assert float(classification_loss(pairs, config)) == pytest.approx(expected, rel=1e-5)


class NoProductOfIntegers(TorchDispatchMode):
    """Stops at what no GPU has a kernel for."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm):
            assert all(each.is_floating_point() for each in arguments), function
        return function(*arguments, **(options or {}))


def test_texts_are_sorted_with_what_a_gpu_can_do():
    pairs = make_pairs(
        torch.zeros(2, 2, 1, 1), image_id=[1, 2], text_image_id=[1, 2], referent_id=[1, 1],
        text_id=[1, 2],
    )  # fmt: skip
    with NoProductOfIntegers():
        assert classification_loss(pairs, ClassificationConfig()).isfinite()


def test_calibration_is_of_full_precision_in_bf16(tiny_config, tiny_batch):
    batch = tiny_batch([0, 1])
    batch = batch._replace(negative_token_ids=batch.token_ids.flip(0).unsqueeze(1))
    judge = Calibrator(tiny_config.encoder.build(), CalibrationConfig(num_negatives=1))
    with torch.autocast("cpu", torch.bfloat16):
        terms = judge(torch.zeros(2, 4, 4), batch, input_spec=tiny_config.input_spec)
    assert len(terms) == 2
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_positive_loss_is_the_mean_negative_logarithm_and_is_finite_below_zero():
    assert float(positive_loss(torch.tensor([0.5, 0.25]))) == pytest.approx(
        (np.log(2) + np.log(4)) / 2
    )
    assert float(positive_loss(torch.tensor([-1.0]))) == pytest.approx(-np.log(1e-4), rel=1e-4)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1.0), ("sum", 2.0)])
def test_negative_loss_reduces_over_negatives_as_asked(reduction, factor):
    config = dataclasses.replace(CalibrationConfig(), negative_reduction=reduction)
    loss = negative_loss(torch.tensor([[0.5, 0.5], [0.0, 0.0]]), config)
    assert float(loss) == pytest.approx(factor * np.log(2) / 2)


def test_clamped_negatives_gain_nothing_from_falling_below_zero():
    similarity = torch.tensor([[-0.5]], requires_grad=True)
    for clamps, expected in ((True, 0.0), (False, 1 / 1.5)):
        config = dataclasses.replace(CalibrationConfig(), clamp_negatives=clamps)
        (gradient,) = torch.autograd.grad(negative_loss(similarity, config), similarity)
        assert float(gradient) == pytest.approx(expected)
