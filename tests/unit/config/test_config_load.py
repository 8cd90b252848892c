import ast
import dataclasses
import json
import re
from pathlib import Path

import pytest

from tris.config import (
    ExperimentConfig,
    SegmenterExperiment,
    load,
    parse_stage,
    read_experiment,
    to_json,
)
from tris.errors import InputError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
EXPERIMENTS = sorted(path.stem for path in CONFIGS.glob("[!_]*.py"))
DEBUG = (CONFIGS / "debug.py", CONFIGS / "segmenter" / "tris_debug.py")
WITH_DOCSTRING = sorted([*CONFIGS.glob("[!_]*.py"), *(CONFIGS / "segmenter").glob("[!_]*.py")])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_loads_with_the_segmenter_of_its_name(name):
    config = load(CONFIGS / f"{name}.py", CONFIGS / "segmenter" / f"tris_{name}.py")
    assert isinstance(config, ExperimentConfig)
    assert isinstance(config.segmenter, SegmenterExperiment)
    assert config.name == name


@pytest.mark.parametrize("path", WITH_DOCSTRING, ids=lambda path: path.stem)
def test_every_config_is_a_lab_note(path):
    note = ast.get_docstring(ast.parse(path.read_text())) or ""
    for heading in ("Paper", "Command", "Cost", "Expected"):
        assert re.search(rf"^{heading}\b.*:\s*\S", note, re.MULTILINE), heading


def test_overrides_reach_nested_fields_with_their_types():
    config = load(
        *DEBUG,
        [
            "--seed=4", "--response.training.learning-rate=0.5", "--data.evaluation-splits", "val",
            "test", "--segmenter.network.positive_weight=2", "--pretrain.training.steps=9",
            "--response.training.clip-norm=None", "--data.no-cache-images",
        ],
    )  # fmt: skip
    assert config.seed == 4
    assert config.response.training.learning_rate == 0.5
    assert config.data.evaluation_splits == ("val", "test")
    assert config.segmenter.network.positive_weight == 2.0
    assert config.pretrain.training.steps == 9
    assert config.response.training.clip_norm is None
    assert config.data.cache_images is False


def test_what_is_not_overridden_stays():
    plain, changed = load(*DEBUG), load(*DEBUG, ["--seed=1"])
    assert dataclasses.replace(changed, seed=plain.seed) == plain


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--response.training.stepz=3", "did you mean --response.training.steps?"),
        (
            "--segmenter.network.dice-weight=1",
            "did you mean --segmenter.image-losses.dice-weight?",
        ),
        ("--segmenter.image-losses.referent-weight=1", "give --segmenter.training.sampling=images"),
        ("--response.training.log-every=0", "log_every is 0; use 1 or more."),
        ("--segmenter.image-losses.dice-weight=-1", "dice_weight is above 0 or None, not -1"),
        ("--sed=3", "There is no setting --sed: did you mean --seed?"),
        ("quite-something-else", "There is no setting quite-something-else: The option --help"),
        ("--seed=abc", "invalid literal for int"),
        ("--seed", "Missing value for argument '--seed'"),
        ("--response.training.schedule=foo", "Expected one of"),
    ],
)
def test_a_slip_in_an_override_is_one_sentence(override, sentence, capfd):
    with pytest.raises(InputError) as raised:
        load(*DEBUG, [override])
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "│" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_help_lists_every_field_and_leaves_with_0(capsys):
    with pytest.raises(SystemExit) as leaving:
        load(*DEBUG, ["--help"])
    assert leaving.value.code == 0
    shown = capsys.readouterr().out
    for name in ("--response.training.global-batch-size", "--segmenter.network.positive-weight"):
        assert name in shown


def test_a_missing_file_is_named_with_those_there_are(tmp_path):
    with pytest.raises(InputError, match=r"no config .*debugg\.py; .* has .*debug"):
        load(CONFIGS / "debugg.py", DEBUG[1])
    with pytest.raises(InputError, match=r"nowhere/a\.py\.$"):
        load(tmp_path / "nowhere" / "a.py", DEBUG[1])


def test_the_two_kinds_of_file_may_not_be_swapped():
    with pytest.raises(InputError, match="must return a SegmenterExperiment"):
        load(DEBUG[0], DEBUG[0])
    with pytest.raises(InputError, match="must return an ExperimentConfig"):
        load(DEBUG[1], DEBUG[1])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def get_config(:", "cannot be used: "),
        ("import there_is_no_such_module", "No module named"),
        ("x = 1", "has no function get_config"),
        (
            "from tris.training.settings import TrainingConfig\n"
            "def get_config():\n    return TrainingConfig(stepz=3)",
            "unexpected keyword argument 'stepz'",
        ),
        ("def get_config():\n    return TrainingConfig()", "name 'TrainingConfig' is not defined"),
    ],
)
def test_a_slip_in_a_config_file_is_one_sentence(tmp_path, source, sentence):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        load(path, DEBUG[1])
    assert str(path) in str(raised.value)


def test_a_config_outside_the_repository_is_as_good(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from configs import debug\n"
        "import dataclasses\n"
        "def get_config():\n"
        "    return dataclasses.replace(debug.get_config(), seed=12)\n"
    )
    assert load(path, DEBUG[1]).seed == 12


def test_json_holds_every_leaf_as_json_gives_it_back():
    config = load(*DEBUG)
    plain = to_json(config)
    assert plain["response"]["training"]["steps"] == config.response.training.steps
    assert plain["data"]["evaluation_splits"] == list(config.data.evaluation_splits)
    assert set(plain) == {field.name for field in dataclasses.fields(config)}
    assert to_json(plain) == plain


@pytest.mark.parametrize("name", ["debug", "refcoco_unc", "synthetic_gres"])
def test_the_config_of_a_run_comes_back_with_its_classes(name, tmp_path):
    config = load(CONFIGS / f"{name}.py", CONFIGS / "segmenter" / f"tris_{name}.py")
    (tmp_path / "config.json").write_text(json.dumps(to_json(config)))
    again = read_experiment(tmp_path / "config.json")
    network = again.segmenter.network
    assert network == to_json(config.segmenter.network)
    segmenter = dataclasses.replace(again.segmenter, network=config.segmenter.network)
    assert dataclasses.replace(again, segmenter=segmenter) == config


def test_a_folder_that_is_no_run_of_this_version_is_refused(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match=r"is no run: it has no config\.json"):
        read_experiment(path)
    for text in ("{", '{"colour": 3}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is no experiment of this version"):
            read_experiment(path)


def test_json_writes_paths_as_text():
    assert to_json({"a": Path("b/c"), "d": (1, None)}) == {"a": "b/c", "d": [1, None]}


def test_a_stage_reads_its_own_arguments_and_leaves_the_rest_to_the_config():
    arguments, config = parse_stage(
        ["--config", str(DEBUG[0]), "--segmenter", str(DEBUG[1]), "--run", "r", "--replace",
         "--seed=2", "--data.text=raw"],
        description="", switches=["replace", "ceiling"],
    )  # fmt: skip
    assert (arguments.run, arguments.data, arguments.switches) == (Path("r"), None, {"replace"})
    assert (config.seed, config.data.text) == (2, "raw")


def test_runs_of_different_seeds_are_different_groups():
    config = load(*DEBUG)
    assert config.group != dataclasses.replace(config, seed=1).group


def test_a_missing_segmenter_names_those_there_are_and_no_shared_parts():
    with pytest.raises(InputError, match="tris_synthetic") as caught:
        load(CONFIGS / "debug.py", CONFIGS / "segmenter" / "tris_nowhere.py")
    assert "_debug," not in re.findall(r"\S+", str(caught.value))


def test_a_command_in_a_lab_note_names_configs_that_exist():
    for path in WITH_DOCSTRING:
        for name in re.findall(r"CONFIG=(\w+)", path.read_text()):
            assert (CONFIGS / f"{name}.py").is_file(), f"{path.name}: CONFIG={name}"
