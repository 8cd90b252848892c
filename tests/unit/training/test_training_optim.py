import math

import pytest
import torch
from torch import nn

from tris.errors import InputError
from tris.model_directory import ParameterGroup
from tris.training.optim import build_optimizer, learning_rate_factor, set_learning_rate
from tris.training.settings import TrainingConfig


def factors(total_steps, **settings):
    config = TrainingConfig(**settings)
    return [learning_rate_factor(step, total_steps, config) for step in range(total_steps)]


def test_the_poly_schedule_is_one_minus_progress_to_the_power():
    expected = [(1 - step / 5) ** 0.9 for step in range(5)]
    assert factors(5, schedule="poly", power=0.9) == pytest.approx(expected)


def test_the_cosine_schedule_is_half_a_period():
    expected = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert factors(4, schedule="cosine") == pytest.approx(expected)


def test_the_cosine_may_start_late_and_end_above_zero():
    found = factors(8, schedule="cosine", decay_from=0.5, lowest_rate=0.2)
    fall = [0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert found == pytest.approx([1.0] * 4 + fall)
    with pytest.raises(InputError, match=r"decay_from is 1\.0"):
        TrainingConfig(schedule="cosine", decay_from=1.0)


def test_the_constant_schedule_stays():
    assert factors(3, schedule="constant") == [1.0, 1.0, 1.0]


def test_the_step_schedule_falls_to_a_tenth_at_each_part():
    found = factors(10, schedule="step", decay_at=(0.6, 0.8))
    assert found == pytest.approx([1.0] * 6 + [0.1] * 2 + [0.01] * 2)


def test_warmup_rises_linearly_and_multiplies_the_schedule():
    assert factors(6, schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    poly = factors(6, schedule="poly", power=1.0, warmup_steps=2)
    assert poly[:2] == pytest.approx([0.5, 5 / 6])


def test_steps_beyond_the_last_have_no_learning_rate():
    assert learning_rate_factor(7, 5, TrainingConfig(schedule="poly")) == 0.0


def two_groups():
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    return [
        ParameterGroup("encoder", [first], learning_rate_scale=0.1),
        ParameterGroup("head", [second], weight_decay=0.0),
        ParameterGroup("nothing", []),
    ]


def test_each_group_has_its_scale_and_weight_decay_and_empty_ones_are_left_out():
    config = TrainingConfig(learning_rate=2.0, weight_decay=0.3)
    groups = build_optimizer(two_groups(), config).param_groups
    assert [group["name"] for group in groups] == ["encoder", "head"]
    assert [group["lr"] for group in groups] == pytest.approx([0.2, 2.0])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]


def test_the_factor_scales_full_rates_not_the_last_ones():
    optimizer = build_optimizer(two_groups(), TrainingConfig(learning_rate=2.0))
    for factor in (0.5, 0.25):
        set_learning_rate(optimizer, factor)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.5])
