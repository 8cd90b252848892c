import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tris.batch import IGNORE_INDEX
from tris.segmenters.losses import binary_cross_entropy, dice_loss, focal_loss


def binary_cross_entropy_by_definition(logits, targets, positive_weight):
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    per_expression = []
    for one, target in zip(probability, targets, strict=True):
        positive = -positive_weight * np.log(one[target == 1])
        negative = -np.log(1 - one[target == 0])
        known = np.concatenate([positive, negative])
        per_expression.append(known.mean() if known.size else 0.0)
    return np.mean(per_expression)


@given(seed=st.integers(0, 1000), positive_weight=st.sampled_from([1.0, 3.0]))
def test_equals_the_definition(seed, positive_weight):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 4, 4)).astype(np.float32)
    targets = rng.choice([0, 1, IGNORE_INDEX], size=(3, 4, 4)).astype(np.uint8)
    loss = binary_cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(targets), positive_weight=positive_weight
    )
    expected = binary_cross_entropy_by_definition(logits, targets, positive_weight)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [0, 1])
def test_zero_logits_cost_ln_two_on_empty_and_on_full_masks(value):
    targets = torch.full((2, 4, 4), value, dtype=torch.uint8)
    assert binary_cross_entropy(torch.zeros(2, 4, 4), targets).item() == pytest.approx(math.log(2))


def test_one_known_pixel_decides_alone():
    targets = torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    targets[0, 2, 1] = 1
    logits = torch.full((1, 4, 4), -50.0)
    logits[0, 2, 1] = 0.0
    assert binary_cross_entropy(logits, targets).item() == pytest.approx(math.log(2))


def test_ignored_pixels_get_no_gradient_even_where_logits_are_extreme():
    logits = torch.full((1, 2, 2), 1e30, requires_grad=True)
    targets = torch.full((1, 2, 2), IGNORE_INDEX, dtype=torch.uint8)
    binary_cross_entropy(logits, targets).backward()
    assert torch.equal(logits.grad, torch.zeros(1, 2, 2))


def test_half_precision_logits_are_summed_in_single_precision():
    targets = torch.zeros(1, 4, 4, dtype=torch.uint8)
    loss = binary_cross_entropy(torch.zeros(1, 4, 4, dtype=torch.bfloat16), targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2))


def test_halves_of_a_batch_average_to_the_whole_whatever_is_ignored():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 5, generator=generator)
    targets = torch.randint(0, 2, (4, 5, 5), generator=generator).to(torch.uint8)
    targets[0, :4] = IGNORE_INDEX
    halves = [binary_cross_entropy(logits[i : i + 2], targets[i : i + 2]) for i in (0, 2)]
    assert torch.stack(halves).mean().item() == pytest.approx(
        binary_cross_entropy(logits, targets).item()
    )


def random_case(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 4, 4)).astype(np.float32)
    return logits, rng.choice([0, 1, IGNORE_INDEX], size=(3, 4, 4)).astype(np.uint8)


def focal_by_definition(logits, targets, alpha, gamma):
    per_expression = []
    for one, target in zip(logits.astype(np.float64), targets, strict=True):
        costs = []
        for logit, value in zip(one.ravel(), target.ravel(), strict=True):
            if value == IGNORE_INDEX:
                continue
            foreground = 1 / (1 + math.exp(-logit))
            right, weight = (foreground, alpha) if value else (1 - foreground, 1 - alpha)
            costs.append(-weight * (1 - right) ** gamma * math.log(right))
        per_expression.append(sum(costs) / len(costs) if costs else 0.0)
    return np.mean(per_expression)


@given(seed=st.integers(0, 1000), alpha=st.sampled_from([0.25, 0.5]), gamma=st.sampled_from([1, 2]))
def test_focal_loss_equals_the_definition(seed, alpha, gamma):
    logits, targets = random_case(seed)
    loss = focal_loss(
        torch.from_numpy(logits), torch.from_numpy(targets), alpha=alpha, gamma=float(gamma)
    )
    expected = focal_by_definition(logits, targets, alpha, gamma)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 1000), squares=st.booleans())
def test_dice_loss_equals_the_definition(seed, squares):
    logits, targets = random_case(seed)
    expected = []
    for one, target in zip(logits.astype(np.float64), targets, strict=True):
        probability = (1 / (1 + np.exp(-one)))[target != IGNORE_INDEX]
        truth = (target == 1)[target != IGNORE_INDEX]
        predicted = probability**2 if squares else probability
        ratio = (2 * (probability * truth).sum() + 1) / (predicted.sum() + truth.sum() + 1)
        expected.append(1 - ratio)
    loss = dice_loss(
        torch.from_numpy(logits), torch.from_numpy(targets), squares_denominator=squares
    )
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-5)


@pytest.mark.parametrize("loss", [focal_loss, dice_loss])
def test_ignored_pixels_get_no_gradient_from_focal_and_dice(loss):
    logits = torch.tensor([[[1e30, -1e30], [0.3, -0.2]]], requires_grad=True)
    targets = torch.tensor([[[IGNORE_INDEX, IGNORE_INDEX], [1, 0]]], dtype=torch.uint8)
    loss(logits, targets).backward()
    assert torch.equal(logits.grad[0, 0], torch.zeros(2))
    assert logits.grad[0, 1].all()


@pytest.mark.parametrize("loss", [focal_loss, dice_loss])
@pytest.mark.parametrize("value", [0, 1])
def test_a_sure_and_right_answer_costs_nothing(loss, value):
    targets = torch.full((1, 4, 4), value, dtype=torch.uint8)
    logits = torch.full((1, 4, 4), 100.0 if value else -100.0)
    assert loss(logits, targets).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [focal_loss, dice_loss])
def test_an_expression_without_a_known_pixel_adds_zero(loss):
    targets = torch.full((1, 4, 4), IGNORE_INDEX, dtype=torch.uint8)
    assert loss(torch.randn(1, 4, 4), targets).item() == 0.0


def test_dice_of_a_missed_mask_is_nearly_one():
    logits, targets = torch.full((1, 8, 8), -100.0), torch.ones(1, 8, 8, dtype=torch.uint8)
    assert dice_loss(logits, targets).item() == pytest.approx(64 / 65)
