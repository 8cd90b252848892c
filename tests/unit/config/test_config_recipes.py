"""What one experiment says of another holds."""

import dataclasses
import re
from pathlib import Path

import pytest

from benchmarks import beyond, generalized
from benchmarks.ablation import ROWS
from configs import synthetic, synthetic_gres, synthetic_hard
from tris.config import load, to_json
from tris.data.synthetic_gres import WORDS


def test_in_the_comparison_of_segmenters_every_object_has_sentences():
    compared, default = synthetic_gres.get_config().data.synthetic, synthetic.SCENES
    assert compared == dataclasses.replace(default, unnamed_share=0.0)
    assert default.unnamed_share > 0


def test_kinds_are_counted_on_the_embedded_data_alone():
    """On photographs there are more than two of "the two boats" about half the time."""
    for path in Path("configs/segmenter").glob("[!_]*.py"):
        base = "synthetic_gres" if path.stem.endswith("_gres") else "synthetic"
        composition = load(Path(f"configs/{base}.py"), path, []).segmenter.composition
        is_embedded = "_synthetic" in path.stem or path.stem.endswith("_debug")
        if composition is not None and not is_embedded:
            assert (composition.counted_share, composition.brief_share) == (0, 0), path


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.py")), ids=lambda path: path.stem)
def test_a_mask_counts_from_fifty_pixels_of_a_photograph_and_from_two_of_a_scene(path):
    config = load(path, Path(f"configs/segmenter/tris_{path.stem}.py"), [])
    assert config.evaluation.minimum_area == (2 if config.data.synthetic is not None else 50)


@pytest.mark.parametrize("segmenter", ["mabp", "grser"])
def test_the_default_teaches_and_scores_sentences_about_several(segmenter):
    path = Path(f"configs/segmenter/{segmenter}_synthetic.py")
    config = load(Path("configs/synthetic.py"), path, [])
    assert config.segmenter.composition.counted_and_share > 0
    assert set(WORDS) <= set(config.pretrain.extra_words)
    assert config.data.synthetic.gres is not None
    assert config.evaluation.minimum_area == 2


def test_weights_are_selected_by_giou_where_the_validation_split_has_sentences_about_nothing():
    for path in Path("configs/segmenter").glob("[!_]*.py"):
        selected = load(Path("configs/synthetic.py"), path, []).segmenter.training.select
        is_generalized = path.stem.endswith("_grefcoco_unc")
        assert (selected == "generalized_mean_iou") == is_generalized, path


ROWS_OF_GENERALIZED = generalized.MAIN | generalized.ABLATIONS


@pytest.mark.parametrize("name", ROWS_OF_GENERALIZED)
def test_rows_of_the_generalized_table_can_be_trained(name):
    row = ROWS_OF_GENERALIZED[name]
    if row.weights_of:
        base = ROWS_OF_GENERALIZED[row.weights_of]
        assert not base.weights_of
        assert not row.settings
        assert row.evaluation_ranking
        return
    segmenter = Path(f"configs/segmenter/{row.segmenter}_synthetic_gres.py")
    config = load(Path("configs/synthetic_gres.py"), segmenter, list(row.settings)).segmenter
    size = config.network.input_spec.group_size
    assert not size or config.training.global_batch_size % size == 0


def test_the_test_split_of_the_harder_set_waits_to_be_asked_for():
    assert synthetic_hard.get_config().data.evaluation_splits == ("val",)


@pytest.mark.parametrize("row", [name for name in ROWS if "K = " in name])
def test_rows_of_the_ablation_have_the_negatives_that_they_name(row):
    segmenter = Path("configs/segmenter/tris_synthetic_tris.py")
    overrides = [f"--{key}={value}" for key, value in ROWS[row].items()]
    config = load(Path("configs/synthetic_tris.py"), segmenter, overrides)
    (number,) = re.findall(r"K = (\d+)", row)
    assert config.response.calibration.num_negatives == int(number)


def test_the_parts_together_are_the_whole_recipe():
    taken = {path for row in beyond.ROWS.values() for path in row.takes}
    flags = [
        beyond.as_flag(path, beyond.look_up(synthetic_hard.get_config(), path)) for path in taken
    ]
    found, wanted = _flatten(_load_hard("_tris", flags)), _flatten(_load_hard("", []))
    left = {path for path in wanted if found[path] != wanted[path]}
    assert {path for path in left if not path.startswith((".evaluation", ".name"))} == {
        ".response.training.evaluate_every",
        ".response.training.steps",
        ".segmenter.training.evaluate_every",
        ".segmenter.training.steps",
        ".segmenter.rounds",
    }


def test_rows_are_as_long_as_they_say():
    pairs, images = (beyond.settings_of(beyond.ROWS[name]) for name in (beyond.PAPER, beyond.ALL))
    assert (pairs["response.training.steps"], pairs["segmenter.training.steps"]) == (200, 450)
    assert (images["response.training.steps"], images["segmenter.training.steps"]) == (400, 500)
    assert beyond.settings_of(beyond.ROWS["all, two rounds"])["self_training.steps"] == 250


def test_a_row_comes_after_all_that_it_builds_upon():
    for name, row in beyond.ROWS.items():
        base = row.starts_from
        assert beyond.depth_of(name) == (0 if base is None else beyond.depth_of(base) + 1)
    assert beyond.depth_of(beyond.PIECE_TWICE) == 2


def test_a_row_of_annotated_masks_is_told_from_that_of_labels():
    masks, labels = (beyond.ROWS[name] for name in (beyond.TRUE_MASKS, beyond.ALL_TWICE))
    assert beyond.flags_of(masks) == beyond.flags_of(labels)
    assert beyond.stored_settings(masks) != beyond.stored_settings(labels)


def _load_hard(suffix, flags):
    name = f"synthetic_hard{suffix}"
    config = load(Path(f"configs/{name}.py"), Path(f"configs/segmenter/tris_{name}.py"), flags)
    return to_json(config)


def _flatten(value, path=""):
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for name in value for k, v in _flatten(value[name], f"{path}.{name}").items()}
