"""Rows of benchmark tables that are kept from one start to the next."""

import dataclasses
import json
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import (
    ablation,
    beyond,
    generalized,
    label_recipes,
    seeded_rows,
    segmenter_ablation,
)
from benchmarks.seeded_rows import (
    digest_of,
    fill_rows,
    lend,
    read_or_fill,
    row_parser,
    table_by_type,
)
from configs import debug
from tris.errors import InputError

DEBUG = debug.get_config()


def fill(out, runs, steps, done, experiment=DEBUG):
    def measure(name, run):
        done.append((name, run.name))
        return {"mean_iou": 0.5}

    return fill_rows(
        ["a", "b"], runs, out, measure, settings=lambda name: {"steps": steps},
        experiment=lambda name: experiment, jobs=1,
    )  # fmt: skip


def test_a_further_seed_costs_only_what_is_new(tmp_path):
    done = []
    fill(tmp_path / "out.json", [Path("seed0")], 5, done)
    results = fill(tmp_path / "out.json", [Path("seed0"), Path("seed1")], 5, done)
    assert done == [("a", "seed0"), ("b", "seed0"), ("a", "seed1"), ("b", "seed1")]
    assert results["b"]["seed1"] == {
        "settings": {"steps": 5}, "config": digest_of(DEBUG), "mean_iou": 0.5
    }  # fmt: skip


def test_rows_that_are_done_stay_and_no_other_starts_when_one_fails(tmp_path):
    done = []

    def measure(name, run):
        done.append(name)
        if name == "b":
            raise InputError("no labels")
        time.sleep(0.3)  # so that the failure is seen before the next row is taken
        return {"mean_iou": 0.5}

    with pytest.raises(InputError, match="no labels"):
        fill_rows(
            list("abcdefgh"), [Path("seed0")], tmp_path / "out.json", measure,
            settings=lambda name: {}, experiment=lambda name: DEBUG, jobs=1,
        )  # fmt: skip
    assert "a" in json.loads((tmp_path / "out.json").read_text())
    assert done in (list("ab"), list("abc"))


def test_rows_of_other_settings_are_not_mixed(tmp_path):
    fill(tmp_path / "out.json", [Path("seed0")], 5, [])
    with pytest.raises(InputError, match="'a' of seed0 was trained with other settings"):
        fill(tmp_path / "out.json", [Path("seed1")], 6, [])


def test_rows_of_another_config_are_not_mixed(tmp_path):
    done = []
    fill(tmp_path / "out.json", [Path("seed0")], 5, done)
    changed = dataclasses.replace(DEBUG, pretrain=None)
    with pytest.raises(InputError, match="'a' of seed0 was trained with another config"):
        fill(tmp_path / "out.json", [Path("seed1")], 5, done, changed)
    assert len(done) == 2


def test_a_row_of_a_time_before_digests_is_accepted_with_a_warning(tmp_path):
    out = tmp_path / "out.json"
    old = {"settings": {"steps": 5}, "mean_iou": 0.25}
    out.write_text(json.dumps({"a": {"seed0": old}}))
    with pytest.warns(UserWarning, match="'a' of seed0 does not say which config"):
        results = fill(out, [Path("seed0"), Path("seed1")], 5, [])
    assert results["a"]["seed0"] == old
    assert results["a"]["seed1"]["config"] == digest_of(DEBUG)


def test_seeds_and_dashboards_are_no_part_of_a_recipe():
    tracking = dataclasses.replace(DEBUG.tracking, project="mine")
    assert digest_of(dataclasses.replace(DEBUG, seed=5, tracking=tracking)) == digest_of(DEBUG)


def test_a_setting_that_came_later_and_is_off_changes_no_recipe(monkeypatch):
    before = digest_of(DEBUG)
    settings = seeded_rows.to_json(DEBUG)
    later = settings["response"]["training"] | {"later": None}
    response = settings["response"] | {"training": later}
    monkeypatch.setattr(seeded_rows, "to_json", lambda _: settings | {"response": response})
    assert digest_of(DEBUG) == before
    later["later"] = 1
    assert digest_of(DEBUG) != before


EXPERIMENTS = {
    "beyond": (beyond.row_experiment, ("competition", "all, two rounds")),
    "ablation": (
        partial(ablation.row_experiment, steps=7),
        ("classification", "classification, N + 1 = 12"),
    ),
    "segmenter_ablation": (
        partial(segmenter_ablation.row_experiment, steps=7),
        ("DMMI", "DMMI, one scale"),
    ),
    "generalized": (
        partial(generalized.row_experiment, rows=generalized.ABLATIONS, share=0.5),
        ("MABP", "MABP VI: masks of the last head only"),
    ),
    "label_recipes": (
        partial(label_recipes.row_experiment, steps=7),
        tuple(label_recipes.ROWS),
    ),
}


@pytest.mark.parametrize("benchmark", EXPERIMENTS)
def test_rows_of_every_table_have_recipes_of_their_own(benchmark):
    experiment_of_row, names = EXPERIMENTS[benchmark]
    assert len({digest_of(experiment_of_row(name)) for name in names}) == len(names)


@pytest.mark.parametrize("path", [beyond.RESULTS, beyond.TEST_RESULTS], ids=lambda path: path.stem)
def test_figures_of_the_harder_scenes_are_of_the_present_recipes(path):
    for name, runs in json.loads(path.read_text()).items():
        kept = {run["config"] for run in runs.values() if "config" in run}
        assert kept <= {digest_of(beyond.row_experiment(name))}, name


def test_a_row_that_asks_the_network_of_another_has_its_recipe():
    experiment = partial(generalized.row_experiment, rows=generalized.ABLATIONS, share=1.0)
    asking = experiment("GRSer 4: random order in training")
    assert asking == experiment("GRSer 4: random order in training and test")
    assert asking.segmenter.network.ranking == "random"


def test_what_a_run_does_not_have_can_be_lent_twice(tmp_path):
    """Such as composition.npz, which is made on the way, or never."""
    (tmp_path / "run" / "data").mkdir(parents=True)
    first, second = (
        lend(tmp_path / "run", ("data", "composition.npz"), to="rows", row="a") for _ in range(2)
    )
    assert first == second
    assert (first / "data").is_dir()


@pytest.mark.parametrize("rows", ["main", "ablations"])
def test_two_tables_with_rows_of_one_name_have_a_file_each(rows, tmp_path, monkeypatch, capsys):
    assert set(generalized.MAIN) & set(generalized.ABLATIONS)
    files = {name: tmp_path / f"{name}.json" for name in generalized.RESULTS}
    monkeypatch.setattr(generalized, "RESULTS", files)
    monkeypatch.setattr(sys, "argv", ["generalized", "--rows", rows, "--table"])
    with pytest.raises(SystemExit, match="2"):
        generalized.main()
    assert f"{rows}.json is not there" in capsys.readouterr().err


def test_a_table_that_is_not_there_yet_says_what_to_give(tmp_path):
    arguments = row_parser("A table.", tmp_path / "out.json").parse_args(["--table"])
    with pytest.raises(InputError, match="give --runs"):
        read_or_fill(arguments, ["a"], lambda name, run: {}, lambda name: {}, lambda name: DEBUG)


def test_a_metric_that_a_row_does_not_have_is_a_dash():
    found = {"mean_iou": 0.5, "by_type": {"relation": {"peak_in_mask_accuracy": 1, "mean_iou": 0}}}
    results = {"masks": {"seed0": found}, "labels": {"seed0": found | {"labels": 0.25}}}
    columns = {"labels": "labels mIoU", "mean_iou": "mIoU"}
    table = table_by_type(results, ["masks", "labels"], columns, ["relation"])
    assert "| masks | 1 | – | 50.0 | 100.0 / 0.0 |" in table
    assert "| labels | 1 | 25.0 | 50.0 | 100.0 / 0.0 |" in table
