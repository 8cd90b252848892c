"""benchmarks/place_words.py on every kind of model directory that a run makes."""

import sys

import pytest

from benchmarks import place_words

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "has_distances", "has_peaks"),
    [("clip", True, False), ("response/model", True, True), ("segmenter/model", True, True)],
)
def test_the_probe_reads_every_model_directory(
    finished_run, monkeypatch, capsys, model, has_distances, has_peaks
):
    command = ["place_words", "--model", str(finished_run / model), "--images", "20"]
    monkeypatch.setattr(sys, "argv", [*command, "--index", str(finished_run / "index")])
    place_words.main()
    printed = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line for line in printed.splitlines() if "|" in line}
    assert ("two referents" in rows) == has_distances
    assert ("No distances" in printed) != has_distances
    assert (int(rows["all"].split("|")[2]) > 0) == has_peaks
