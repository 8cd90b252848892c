"""Which rules a data set with sentences about several objects, or none, is scored by."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from configs import debug
from stages import evaluate_generalized
from stages.evaluate_generalized import generalized_splits, summarise_generalized
from stages.setup import Folders
from tris.config import DataConfig, EvaluationConfig, load
from tris.data.index import IndexWriter, Referent, open_index
from tris.metrics.protocols import PROTOCOLS
from tris.metrics.rows import Counts
from tris.tracking.tables import final_table


def find_splits(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_generalized, "open_index", lambda folder, split: split)
    data = DataConfig(dataset=dataset, evaluation_splits=("test",))
    config = dataclasses.replace(debug.get_config(), data=data, evaluation=EvaluationConfig())
    return list(generalized_splits(config, Folders(tmp_path)))


def refusal(number, area, *, is_said=False):
    """A sentence about nothing, answered with a mask of so many pixels."""
    counts = Counts(number, number, number, 1000, 0, area, area, 0, 1, int(is_said))
    return np.array(counts, dtype=np.int64)


def hit(number):
    return np.array(Counts(number, number, number, 1000, 40, 80, 60, 60, 0, 0), dtype=np.int64)


def test_figures_of_a_data_set_without_types_come_by_what_sentences_mean(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    with IndexWriter(tmp_path / "index", dataset="toy", images=images) as writer:
        for number, annotations in ((1, (1,)), (2, (1, 2)), (3, ())):
            writer.add("val", Referent(
                number, number, "a.png", 4, 4, (number,), ("words",), ("words",),
                annotation_ids=annotations, is_no_target=not annotations,
            ))  # fmt: skip
    rows = np.stack([hit(1), hit(2), refusal(3, 0)])
    index = open_index(tmp_path / "index", "val")
    figures = summarise_generalized(rows, index, PROTOCOLS["grefcoco"])
    found = {kind: each["generalized_mean_iou"] for kind, each in figures["by_type"].items()}
    assert found == {"single": 0.5, "multi": 0.5, "none": 0.0}


@pytest.mark.parametrize(("dataset", "rules"), [("ref-zom", "refzom"), ("grefcoco", "mabp")])
def test_each_data_set_has_the_rules_of_its_paper(dataset, rules, tmp_path, monkeypatch):
    ((name, index, protocol),) = find_splits(dataset, tmp_path, monkeypatch)
    assert (name, index) == ("gres_test", "test")
    assert protocol == PROTOCOLS[rules]


def test_other_data_sets_have_no_such_splits(tmp_path, monkeypatch):
    assert find_splits("refcoco", tmp_path, monkeypatch) == []


def test_in_ref_zom_a_mask_of_one_pixel_is_no_refusal_and_the_table_says_so(tmp_path, monkeypatch):
    ((_, _, protocol),) = find_splits("ref-zom", tmp_path, monkeypatch)
    rows = np.stack([refusal(1, 0), refusal(2, 1), refusal(3, 30, is_said=True), hit(4)])
    monkeypatch.setattr(evaluate_generalized, "expression_kinds", lambda index: {})
    figures = summarise_generalized(rows, "test", protocol)
    assert figures["zero_sample_accuracy"] == pytest.approx(1 / 3)
    assert figures["mean_iou"] == 0.5
    table = final_table({"segmenter": {"gres_test": figures}})
    titles, cells = (line.split() for line in table.splitlines()[1:])
    assert (titles[-1], cells[-1]) == ("Acc", "33.3")


@pytest.mark.parametrize("composes", [True, False])
def test_the_embedded_splits_are_scored_where_a_segmenter_composes(composes, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_generalized, "open_index", lambda folder, split: split)
    segmenter = Path("configs/segmenter") / f"{'mabp' if composes else 'tris'}_synthetic.py"
    config = load(Path("configs/synthetic.py"), segmenter, [])
    names = [name for name, *_ in generalized_splits(config, Folders(tmp_path))]
    assert names == (["gres_val", "gres_testA", "groups_val", "groups_test"] if composes else [])
