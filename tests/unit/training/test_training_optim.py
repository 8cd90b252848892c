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


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"global_batch_size": 0}, "global_batch_size is 0; use 1 or more."),
        ({"sentences_per_image": -1}, "sentences_per_image is -1; use 0 or more."),
        ({"flip_probability": 3.0}, "flip_probability is 3.0; use 0 to 1."),
        ({"epochs": 0.0}, "epochs is 0.0; use a finite number above 0."),
        ({"epochs": math.inf}, "epochs is inf; use a finite number above 0."),
        ({"steps": 0}, "steps is 0; use 1 or more, or None."),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; use 0 or more."),
        ({"learning_rate": math.nan}, "learning_rate is nan; use 0 or more."),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; use 0 or more."),
        ({"power": -1.0}, "power is -1.0; use 0 or more."),
        ({"decay_from": -0.5}, "decay_from is -0.5; use 0 to below 1."),
        ({"lowest_rate": 1.5}, "lowest_rate is 1.5; use 0 to 1."),
        ({"warmup_steps": -1}, "warmup_steps is -1; use 0 or more."),
        ({"clip_norm": 0.0}, "clip_norm is 0.0; use a finite number above 0, or None."),
        ({"gradient_accumulation": 0}, "gradient_accumulation is 0; use 1 or more."),
        ({"ema_decay": 2.0}, "ema_decay is 2.0; use 0 to below 1, or None."),
        ({"ema_decay": 1.0}, "ema_decay is 1.0; use 0 to below 1, or None."),
        ({"num_workers": -1}, "num_workers is -1; use 0 or more."),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes is -1.0; use 0 or more."),
        ({"checkpoint_steps": -1}, "checkpoint_steps is -1; use 0 or more, or None."),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0; use 1 or more."),
        ({"evaluate_every": -1}, "evaluate_every is -1; use 0 or more, or None."),
        ({"log_every": 0}, "log_every is 0; use 1 or more."),
        ({"decay_at": (0.5, 1.0)}, "decay_at is (0.5, 1.0); use parts of the training between"),
        ({"schedule": "step"}, "decay_at is (); use parts of the training between 0 and 1, at"),
    ],
)
def test_what_divides_by_zero_trains_nothing_or_has_no_effect_is_refused(settings, sentence):
    with pytest.raises(InputError) as raised:
        TrainingConfig(**settings)
    assert str(raised.value).startswith(sentence)


def test_limits_themselves_and_none_are_taken():
    TrainingConfig(
        sentences_per_image=0, flip_probability=1.0, epochs=0.01, steps=1, learning_rate=0.0,
        power=0.0, ema_decay=0.0, checkpoint_minutes=0.0, checkpoint_steps=0, evaluate_every=0,
    )  # fmt: skip
    TrainingConfig(
        steps=None, clip_norm=None, ema_decay=None, checkpoint_steps=None, evaluate_every=None
    )


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
