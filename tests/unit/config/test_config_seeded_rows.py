"""Rows of benchmark tables that are kept from one start to the next."""

import sys
from pathlib import Path

import pytest

from benchmarks import generalized
from benchmarks.seeded_rows import fill_rows, lend, read_or_fill, row_parser


def fill(out, runs, steps, done):
    def measure(name, run):
        done.append((name, run.name))
        return {"mean_iou": 0.5}

    return fill_rows(["a", "b"], runs, out, measure, settings=lambda name: {"steps": steps}, jobs=1)


def test_a_further_seed_costs_only_what_is_new(tmp_path):
    done = []
    fill(tmp_path / "out.json", [Path("seed0")], 5, done)
    results = fill(tmp_path / "out.json", [Path("seed0"), Path("seed1")], 5, done)
    assert done == [("a", "seed0"), ("b", "seed0"), ("a", "seed1"), ("b", "seed1")]
    assert results["b"]["seed1"] == {"settings": {"steps": 5}, "mean_iou": 0.5}


def test_rows_of_other_settings_are_not_mixed(tmp_path):
    fill(tmp_path / "out.json", [Path("seed0")], 5, [])
    with pytest.raises(SystemExit, match="other settings"):
        fill(tmp_path / "out.json", [Path("seed1")], 6, [])


def test_what_a_run_does_not_have_can_be_lent_twice(tmp_path):
    """Such as composition.npz, which is made on the way, or never."""
    (tmp_path / "run" / "data").mkdir(parents=True)
    first, second = (
        lend(tmp_path / "run", ("data", "composition.npz"), to="rows", row="a") for _ in range(2)
    )
    assert first == second
    assert (first / "data").is_dir()


@pytest.mark.parametrize("rows", ["main", "ablations"])
def test_two_tables_with_rows_of_one_name_have_a_file_each(rows, tmp_path, monkeypatch):
    assert set(generalized.MAIN) & set(generalized.ABLATIONS)
    files = {name: tmp_path / f"{name}.json" for name in generalized.RESULTS}
    monkeypatch.setattr(generalized, "RESULTS", files)
    monkeypatch.setattr(sys, "argv", ["generalized", "--rows", rows, "--table"])
    with pytest.raises(SystemExit, match=f"{rows}.json is not there"):
        generalized.main()


def test_a_table_that_is_not_there_yet_says_what_to_give(tmp_path):
    arguments = row_parser("A table.", tmp_path / "out.json").parse_args(["--table"])
    with pytest.raises(SystemExit, match="give --runs"):
        read_or_fill(arguments, ["a"], lambda name, run: {}, lambda name: {})
