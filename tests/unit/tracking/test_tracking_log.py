import math

import pytest

from tris.tracking.local_log import LocalLog, read_curves, read_log
from tris.tracking.names import json_metric, to_json_key, to_panel


def write(path, *steps, resumed_step=None):
    log = LocalLog(path, resumed_step=resumed_step)
    for step in steps:
        log.append({"train/loss": step / 10}, step)
    log.close()


def steps_in(path):
    return [line.step for line in read_log(path)]


def test_what_was_appended_is_read_back(tmp_path):
    write(tmp_path / "m.jsonl", 1, 2)
    assert read_curves(tmp_path / "m.jsonl") == {"train/loss": [(1, 0.1), (2, 0.2)]}


def test_a_line_is_on_disk_before_the_log_is_closed(tmp_path):
    log = LocalLog(tmp_path / "m.jsonl")
    log.append({"train/loss": 1.0}, 1)
    assert steps_in(tmp_path / "m.jsonl") == [1]
    log.close()


def test_a_torn_last_line_is_left_out(tmp_path):
    write(tmp_path / "m.jsonl", 1, 2)
    content = (tmp_path / "m.jsonl").read_bytes()
    (tmp_path / "m.jsonl").write_bytes(content[:-5])
    assert steps_in(tmp_path / "m.jsonl") == [1]


@pytest.mark.parametrize("torn", [b'{"step": 3', b'{"step": 3}\n', b"[]\n", b"\xff\xfe\n"])
def test_a_resumed_run_writes_after_a_torn_line(tmp_path, torn):
    write(tmp_path / "m.jsonl", 1, 2)
    with (tmp_path / "m.jsonl").open("ab") as file:
        file.write(torn)
    write(tmp_path / "m.jsonl", 3, resumed_step=2)
    assert steps_in(tmp_path / "m.jsonl") == [1, 2, 3]


def test_a_resumed_run_drops_later_lines(tmp_path):
    write(tmp_path / "m.jsonl", 1, 2, 3)
    write(tmp_path / "m.jsonl", resumed_step=2)
    assert steps_in(tmp_path / "m.jsonl") == [1, 2]


def test_a_new_run_starts_the_log_anew(tmp_path):
    write(tmp_path / "m.jsonl", 1, 2, 3)
    write(tmp_path / "m.jsonl", 7)
    assert steps_in(tmp_path / "m.jsonl") == [7]


def test_of_two_values_for_one_step_the_later_counts(tmp_path):
    write(tmp_path / "m.jsonl", 2)
    log = LocalLog(tmp_path / "m.jsonl", resumed_step=2)
    log.append({"train/loss": 9.0}, 2)
    log.close()
    assert read_curves(tmp_path / "m.jsonl") == {"train/loss": [(2, 9.0)]}


def test_not_a_number_survives_the_file(tmp_path):
    log = LocalLog(tmp_path / "m.jsonl")
    log.append({"train/loss": float("nan")}, 1)
    log.close()
    assert math.isnan(read_log(tmp_path / "m.jsonl")[0].value)


def test_a_missing_log_has_no_curves(tmp_path):
    assert read_curves(tmp_path / "absent.jsonl") == {}


def test_metrics_are_percentages_on_panels_only():
    assert to_panel("val/precision_at_50", 0.25) == ("val/P@.5", 25.0)
    assert to_panel("val/PointM", 0.25) == ("val/PointM", 25.0)
    assert to_panel("val/generalized_mean_iou", 0.25) == ("val/gIoU", 25.0)
    assert to_panel("train/learning_rate", 0.25) == ("train/learning_rate", 0.25)


def test_both_spellings_of_a_metric_become_one_key():
    assert to_json_key("val/PointM") == to_json_key("val/peak_in_mask_accuracy")
    assert to_json_key("mIoU") == "mean_iou"
    assert json_metric("train/images_per_second") is None
