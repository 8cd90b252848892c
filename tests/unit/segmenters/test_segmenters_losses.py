import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tris.batch import IGNORE_INDEX
from tris.segmenters.losses import binary_cross_entropy


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
