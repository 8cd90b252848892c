import dataclasses

import pytest

from tris.config import to_json
from tris.errors import InputError
from tris.training.fingerprint import check_same, decisive, is_finished, write_finished
from tris.training.settings import TrainingConfig


def settings(**changes):
    return to_json({"seed": 0, "response": {"training": TrainingConfig(**changes)}})


@pytest.mark.parametrize(
    "change",
    [
        {"num_workers": 9}, {"checkpoint_minutes": 1.0}, {"checkpoint_steps": 3},
        {"keep_checkpoints": 7}, {"log_every": 1},
    ],
)  # fmt: skip
def test_settings_that_no_weight_depends_on_do_not_matter(change, tmp_path):
    check_same(settings(), settings(**change), made=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1.0}, {"steps": 7}, {"global_batch_size": 2}, {"ema_decay": 0.9},
        {"precision": "bf16"}, {"select": "last"}, {"evaluate_every": 3},
    ],
)  # fmt: skip
def test_settings_that_weights_depend_on_are_named(change, tmp_path):
    (name,) = change
    with pytest.raises(InputError, match=rf"response\.training\.{name}: .* there, .* now"):
        check_same(settings(), settings(**change), made=tmp_path)


def test_facts_are_compared_where_both_know_them(tmp_path):
    for one, other in (({}, {"sources": "a"}), ({"sources": "a"}, {"sources": None})):
        check_same(settings() | one, settings() | other, made=tmp_path)
    with pytest.raises(InputError, match="sources: a there, b now"):
        check_same(settings() | {"sources": "a"}, settings() | {"sources": "b"}, made=tmp_path)


def test_how_often_is_evaluated_matters_only_where_that_chooses_the_weights(tmp_path):
    check_same(settings(select="last"), settings(select="last", evaluate_every=5), made=tmp_path)


def test_every_field_that_is_left_out_is_one():
    left_out = set(to_json(TrainingConfig())) - set(decisive(settings())["response"]["training"])
    names = {field.name for field in dataclasses.fields(TrainingConfig)}
    assert left_out == names & {
        "num_workers", "checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "log_every",
    }  # fmt: skip
    assert len(left_out) == 5


def test_a_setting_that_was_absent_is_a_difference(tmp_path):
    with pytest.raises(InputError, match="seed: absent there, 0 now"):
        check_same({}, {"seed": 0}, made=tmp_path)


def test_the_sentence_says_what_to_remove_and_counts_what_it_does_not_list(tmp_path):
    found = {str(number): 0 for number in range(8)}
    wanted = {str(number): 1 for number in range(8)}
    with pytest.raises(InputError, match="and 3 more") as raised:
        check_same(found, wanted, made=tmp_path / "response")
    assert str(raised.value).startswith(f"{tmp_path / 'response'} was trained")


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    return folder


def test_a_training_is_finished_when_it_says_so_with_the_same_settings(tmp_path, model):
    assert not is_finished(tmp_path, settings(), model=model)
    write_finished(tmp_path, settings(), {"mean_iou": 0.5})
    assert is_finished(tmp_path, settings(num_workers=1), model=model)
    with pytest.raises(InputError, match="learning_rate"):
        is_finished(tmp_path, settings(learning_rate=1.0), model=model)


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        (["config.json"], "model lacks config.json:"),
        (["model.safetensors"], "model lacks model.safetensors:"),
        (["config.json", "model.safetensors"], "lacks config.json and model.safetensors:"),
    ],
)
def test_a_finished_training_whose_model_is_gone_says_what_to_remove(
    tmp_path, model, removed, named
):
    write_finished(tmp_path, settings(), {})
    for name in removed:
        (model / name).unlink()
    with pytest.raises(InputError, match=rf"{named}.* remove {tmp_path} to train anew"):
        is_finished(tmp_path, settings(), model=model)
