import json

import numpy as np
import pytest

from tris.data.masks import encode_mask
from tris.metrics.boxes import generate_boxes, generate_boxes_of_response
from tris.metrics.counts import count_row
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak
from tris.metrics.protocols import PROTOCOLS
from tris.metrics.saliency import compute_saliency, saliency_row
from tris.metrics.summary import compute_metrics

pytestmark = pytest.mark.golden
LAVT_NAMES = {"mIoU": "mean_iou", "oIoU": "overall_iou"} | {
    f"Pr@0.{tenth}": f"precision_at_{tenth}0" for tenth in range(5, 10)
}


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "metrics"


def _rows(predictions, targets, **per_sample):
    return np.stack(
        [
            count_row(
                prediction,
                target,
                expression_id=number,
                referent_id=number,
                **{name: values[number] for name, values in per_sample.items()},
            )
            for number, (prediction, target) in enumerate(zip(predictions, targets, strict=True))
        ]
    )


@pytest.fixture(scope="module")
def tris(folder):
    with np.load(folder / "tris_inputs.npz") as arrays:
        inputs = dict(arrays)
    return inputs, json.loads((folder / "tris_expected.json").read_text())


@pytest.mark.parametrize("stage", ["stage1_relu_then_norm", "stage2_no_relu_norm"])
def test_tris_numbers_equal_those_of_the_released_evaluator(tris, stage):
    inputs, expected = tris
    expected = expected[stage]
    responses = inputs["logit"]
    responses = np.maximum(responses, 0) if stage.startswith("stage1") else responses
    masks = [mask_from_response(response, rule="peak_normalised") for response in responses]
    rows = _rows(
        masks,
        inputs["gt"],
        point=[find_peak(response, rule="peak_normalised") for response in responses],
        boxes=[[(x1, y1, x2 - x1, y2 - y1)] for x1, y1, x2, y2 in inputs["box"].tolist()],
    )
    metrics = compute_metrics(rows, protocol=PROTOCOLS["tris"])
    found = {
        "mIoU": metrics["mean_iou"],
        "oIoU": metrics["overall_iou"],
        "PointIt": metrics["peak_in_box_accuracy"],
        "PointM": metrics["peak_in_mask_accuracy"],
        "box_acc": metrics["box_accuracy"],
    }
    wanted = {name: expected[name] / 100 for name in found}
    assert found == pytest.approx(wanted, abs=1e-6)
    box_iou = np.mean([sample["box_iou"] for sample in expected["per_sample"]])
    assert metrics["box_mean_iou"] == pytest.approx(box_iou, abs=1e-6)


def test_tris_counts_equal_those_of_the_released_evaluator_for_every_sample(tris):
    inputs, expected = tris
    masks = [mask_from_response(logit, rule="peak_normalised") for logit in inputs["logit"]]
    rows = _rows(masks, inputs["gt"])
    wanted = [[s["I"], s["U"]] for s in expected["stage2_no_relu_norm"]["per_sample"]]
    assert rows[:, 4:6].tolist() == wanted


def test_boxes_drawn_for_masks_equal_the_released_ones(tris):
    inputs, expected = tris
    for logit, sample in zip(
        inputs["logit"], expected["stage1_relu_then_norm"]["per_sample"], strict=True
    ):
        drawn = generate_boxes(encode_mask(logit > 0))
        assert [list(box) for box in drawn] == [box[:4] for box in sample["boxes"]]


def test_boxes_drawn_for_responses_equal_the_released_ones(tris):
    inputs, expected = tris
    for logit, sample in zip(
        inputs["logit"], expected["stage1_relu_then_norm"]["per_sample"], strict=True
    ):
        response = np.maximum(logit, 0)
        drawn = generate_boxes_of_response(response / (response.max() + 1e-5))
        flat = np.array([[*box, score] for box, score in drawn])
        np.testing.assert_allclose(flat, sample["boxes_from_continuous_cam"], atol=1e-6)


def test_lavt_numbers_equal_those_of_the_released_evaluator(folder):
    wanted = json.loads((folder / "lavt_dmmi_expected.json").read_text())["lavt_full_precision"]
    with np.load(folder / "seg_inputs.npz") as inputs:
        rows = _rows(inputs["pred"], inputs["gt"])
    metrics = compute_metrics(rows, protocol=PROTOCOLS["lavt"])
    for theirs, ours in LAVT_NAMES.items():
        assert metrics[ours] == pytest.approx(wanted[theirs] / 100, abs=1e-6)


def test_refzom_numbers_equal_those_of_the_released_evaluator(folder):
    expected = json.loads((folder / "lavt_dmmi_expected.json").read_text())
    wanted = expected["dmmi_refzom_full_precision"]
    with np.load(folder / "seg_inputs.npz") as inputs:
        is_zero = (inputs["source_type"] == "zero").tolist()
        rows = _rows(inputs["pred"], inputs["gt_zom"], is_no_target=is_zero)
    metrics = compute_metrics(rows, protocol=PROTOCOLS["refzom"])
    for theirs, ours in (LAVT_NAMES | {"Acc": "zero_sample_accuracy"}).items():
        assert metrics[ours] == pytest.approx(wanted[theirs] / 100, abs=1e-6)


def test_grefcoco_numbers_equal_those_of_the_released_evaluator(folder):
    wanted = json.loads((folder / "gres_expected.json").read_text())
    with np.load(folder / "gres_inputs.npz") as inputs:
        rows = _rows(
            inputs["logits1"] > 0,
            inputs["gt"],
            is_no_target=inputs["empty"].tolist(),
            predicted_no_target=(inputs["nt_logits"].argmax(axis=1) == 1).tolist(),
        )
    metrics = compute_metrics(rows, protocol=PROTOCOLS["grefcoco"])
    assert metrics["generalized_mean_iou"] == pytest.approx(wanted["gIoU"] / 100, abs=1e-6)
    assert metrics["cumulative_iou"] == pytest.approx(wanted["cIoU"] / 100, abs=1e-6)
    assert metrics["target_accuracy"] == pytest.approx(wanted["T_acc"], abs=1e-6)
    assert metrics["no_target_accuracy"] == pytest.approx(wanted["N_acc"], abs=1e-6)
    for tenth in (7, 8, 9):
        found = metrics[f"precision_at_{tenth}0"]
        assert found == pytest.approx(wanted[f"Pr@0.{tenth}"] / 100, abs=1e-6)


@pytest.mark.parametrize(
    ("truth", "which"), [("gt", "targeted_only_gt"), ("gt_with_empty", "with_empty_gt")]
)
def test_saliency_numbers_equal_those_of_pysodmetrics(folder, truth, which):
    wanted = json.loads((folder / "sod_expected.json").read_text())[which]
    with np.load(folder / "sod_inputs.npz") as inputs:
        predictions, targets = inputs["pred_uint8"], inputs[truth]
    rows = np.stack(
        [saliency_row(p, target) for p, target in zip(predictions, targets, strict=True)]
    )
    found = compute_saliency(rows)
    assert found == pytest.approx(
        {
            "mae": wanted["MAE"],
            "max_f_measure": wanted["maxF"],
            "s_measure": wanted["Sm"],
            "mean_e_measure": wanted["meanE"],
        },
        abs=1e-6,
    )
