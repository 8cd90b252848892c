import json

import pytest

from tris.errors import InputError
from tris.tracking.names import GENERALIZED_METRICS, STEPS
from tris.tracking.runs import differing_settings, group_runs, read_run, summarise
from tris.tracking.tables import final_table


def split(mean_iou, **more):
    return {"val": {"mean_iou": mean_iou, **more}}


def table_row(text, title):
    (line,) = (line for line in text.splitlines() if line.strip().startswith(title))
    return line.removeprefix(line[: line.index(title)] + title).split()


def test_cells_are_percentages_with_one_decimal():
    text = final_table({"segmenter": split(0.5414, peak_in_mask_accuracy=0.7)})
    assert table_row(text, "Stage 2: segmenter") == ["70.0", "54.1", "–", "–"]


def test_rows_follow_the_pipeline_whatever_the_order_of_the_file():
    text = final_table({step: split(0.5) for step in reversed(STEPS)})
    titles = [line[:24].strip() for line in text.splitlines()[2 : 2 + len(STEPS)]]
    assert titles == [title.strip() for title in STEPS.values()]


def test_an_unknown_step_is_the_last_row():
    text = final_table({"dmmi": split(0.5), "segmenter": split(0.4)})
    assert text.splitlines()[3].startswith("dmmi")


def test_types_have_point_and_iou_in_one_column():
    by_type = {"attribute": {"peak_in_mask_accuracy": 0.9, "mean_iou": 0.6}, "position": {}}
    text = final_table({"segmenter": split(0.5, by_type=by_type)})
    assert table_row(text, "Stage 2: segmenter")[-2:] == ["90.0/60.0", "–/–"]


@pytest.mark.parametrize("num_types", [0, 3, 6])
def test_no_line_is_wider_than_110_columns(num_types, make_run):
    types = {f"type {one}": {"mean_iou": 0.5} for one in range(num_types)}
    metrics = {step: split(1.0, by_type=types) for step in STEPS}
    assert max(map(len, final_table(metrics).splitlines())) <= 110


def test_types_that_do_not_fit_get_a_table_of_their_own():
    types = {f"a rather long type {one}": {"mean_iou": 0.5} for one in range(4)}
    text = final_table({"segmenter": split(0.5, by_type=types)})
    assert text.count("Stage 2: segmenter") == 2


def test_the_share_of_the_ceiling_is_told():
    text = final_table({"segmenter": split(0.54), "ceiling": split(0.60)})
    assert "90.0 % of the ceiling's mIoU" in text


def test_every_split_has_a_table_and_val_is_first():
    metrics = {"segmenter": {"test": {"mean_iou": 0.4}, "val": {"mean_iou": 0.5}}}
    text = final_table(metrics)
    assert text.index("val, %") < text.index("test, %")


GENERALIZED = {
    "generalized_mean_iou": 0.702,
    "cumulative_iou": 0.664,
    "no_target_accuracy": 0.788,
    "target_accuracy": 0.976,
    "mean_iou": 0.111,
}


@pytest.mark.parametrize("others", [{}, {"val": {"mean_iou": 0.5}}])
def test_splits_of_several_objects_or_none_have_tables_behind_the_others(others):
    text = final_table({"segmenter": {"gres_val": GENERALIZED, **others}, "labels": others})
    *before, table = text.split("\n\n")
    assert [each.splitlines()[0] for each in before] == [f"{split}, %" for split in others]
    title, head, *rows = table.splitlines()
    assert title == "gres_val, %"
    assert head.split()[:4] == ["gIoU", "cIoU", "N-acc", "T-acc"]
    assert [row.split()[3:7] for row in rows] == [["70.2", "66.4", "78.8", "97.6"]]


def test_their_markdown_has_the_same_figures():
    text = final_table({"segmenter": {"gres_val": GENERALIZED}}, markdown=True)
    assert text.startswith("**gres_val, %**\n\n|  | gIoU | cIoU | N-acc | T-acc |")
    assert "| Stage 2: segmenter | 70.2 | 66.4 | 78.8 | 97.6 |" in text


def test_their_seeds_are_averaged_and_no_line_is_wider_than_110_columns(make_run):
    runs = []
    for seed in (0, 1, 2):
        run = make_run(f"s{seed}", seed=seed)
        figures = {name: 0.8 + seed / 10 for name in GENERALIZED_METRICS}
        (run / "metrics.json").write_text(json.dumps({"segmenter": {"gres_val": figures}}))
        runs.append(read_run(run))
    for text in (final_table(runs), final_table(runs, markdown=True)):
        assert text.count("gres_val, %; mean ± standard deviation of 3 seeds") == 2
        assert text.count("90.0±10.0") == len(GENERALIZED_METRICS)
        assert [text.count(title) for title in ("gIoU", "R_neg", " Acc")] == [1, 1, 1]
    assert max(map(len, final_table(runs).splitlines())) <= 110


def test_nothing_evaluated_is_said():
    assert final_table({}) == "Nothing has been evaluated yet.\n"


def test_markdown_rows_have_as_many_cells_as_the_head():
    lines = final_table({"prms": split(0.5), "labels": split(0.6)}, markdown=True).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert "| + PRMS | – | 50.0 | – | – |" in rows


def test_seeds_of_one_setting_are_averaged(make_run):
    runs = [read_run(make_run(f"s{seed}", seed=seed, shift=seed / 10)) for seed in (0, 1, 2)]
    (group,) = group_runs(runs)
    summary = summarise(group.runs, "segmenter", "val")["mean_iou"]
    assert summary.mean == pytest.approx(0.64)
    assert summary.spread == pytest.approx(0.1)
    assert "64.0±10.0" in final_table(group.runs)


def test_the_same_seed_twice_is_not_averaged(make_run):
    runs = [read_run(make_run(folder, seed=0)) for folder in ("a", "b")]
    assert [group.title for group in group_runs(runs)] == ["synthetic (a)", "synthetic (b)"]


def test_other_settings_under_one_name_are_not_averaged(make_run):
    runs = [
        read_run(make_run("a", seed=0, optim={"lr": 1})),
        read_run(make_run("b", seed=1, optim={"lr": 2})),
    ]
    groups = group_runs(runs)
    assert len(groups) == 2
    assert differing_settings(groups) == {"optim.lr": ["1", "2"]}


def test_dashboards_are_no_setting(make_run):
    runs = [
        read_run(make_run("a", seed=0, tracking={"tracking": "none"})),
        read_run(make_run("b", seed=1, tracking={"tracking": "wandb"})),
    ]
    assert len(group_runs(runs)) == 1


def test_a_run_with_stage_one_only_is_read(tmp_path, make_run):
    run = make_run("a")
    for name in ("config.json", "metrics.json", "gallery/gallery.json"):
        (run / name).unlink()
    found = read_run(run)
    assert (found.name, found.seed, found.metrics, found.gallery) == ("a", None, {}, [])
    assert list(found.curves) == ["segmenter"]


def test_the_curves_of_earlier_rounds_are_read_under_their_folder(make_run):
    run = make_run("a")
    earlier = run / "rounds" / "1" / "segmenter"
    earlier.mkdir(parents=True)
    (earlier / "metrics.jsonl").write_bytes((run / "segmenter" / "metrics.jsonl").read_bytes())
    curves = read_run(run).curves
    assert curves["rounds/1/segmenter"] == curves["segmenter"]
    assert set(curves) == {"rounds/1/segmenter", "segmenter"}


def test_a_folder_that_is_no_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="is no run"):
        read_run(tmp_path)


def test_a_missing_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        read_run(tmp_path / "absent")


@pytest.mark.parametrize("content", ["{", "[]", '{"segmenter": 3}', '{"segmenter": {"val": 3}}'])
def test_damaged_metrics_are_an_input_error(make_run, content):
    run = make_run("a")
    (run / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json"):
        read_run(run)


def test_a_table_can_be_made_of_the_file_itself(make_run):
    metrics = json.loads((make_run("a") / "metrics.json").read_text())
    assert "Stage 2: segmenter" in final_table(metrics)
