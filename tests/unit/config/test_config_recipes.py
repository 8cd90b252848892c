"""What one experiment says of another holds."""

import dataclasses
import re
from pathlib import Path

import pytest

from benchmarks.ablation import ROWS
from configs import synthetic, synthetic_gres, synthetic_hard
from tris.config import load


def test_generalized_scoring_differs_from_its_base_in_the_area_alone():
    found, base = synthetic_gres.get_config(), synthetic.get_config()
    assert found.evaluation == dataclasses.replace(base.evaluation, minimum_area=2)


def test_sentences_are_composed_where_every_object_has_some():
    assert synthetic_gres.get_config().data.synthetic.unnamed_share == 0


def test_the_test_split_of_the_harder_set_waits_to_be_asked_for():
    assert synthetic_hard.get_config().data.evaluation_splits == ("val",)


@pytest.mark.parametrize("row", [name for name in ROWS if "K = " in name])
def test_rows_of_the_ablation_have_the_negatives_that_they_name(row):
    segmenter = Path("configs/segmenter/tris_synthetic_tris.py")
    overrides = [f"--{key}={value}" for key, value in ROWS[row].items()]
    config = load(Path("configs/synthetic_tris.py"), segmenter, overrides)
    (number,) = re.findall(r"K = (\d+)", row)
    assert config.response.calibration.num_negatives == int(number)
