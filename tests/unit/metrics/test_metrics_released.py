"""Every released evaluator's rule in a few lines of NumPy, against ours, on random odd samples."""

import numpy as np
import pytest

from tris.metrics.counts import count_row
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak
from tris.metrics.protocols import PROTOCOLS
from tris.metrics.summary import compute_metrics

HEIGHT, WIDTH = 24, 32
PERCENTS = (50, 60, 70, 80, 90)


def random_mask(generator):
    """Empty, full, one pixel, two blocks, or a block that touches a border."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    kind = generator.integers(6)
    if kind == 1:
        return ~mask
    if kind == 2:
        mask[generator.integers(HEIGHT), generator.integers(WIDTH)] = True
    for _ in range({3: 2, 4: 1, 5: 1}.get(int(kind), 0)):
        top, left = generator.integers(HEIGHT), generator.integers(WIDTH)
        mask[top : top + generator.integers(1, 16), left : left + generator.integers(1, 20)] = True
    return mask


@pytest.fixture(params=range(4))
def samples(request):
    generator = np.random.default_rng(request.param)
    return [
        {
            "prediction": random_mask(generator) if generator.random() < 0.6 else truth,
            "truth": truth & False if nothing else truth,
            "nothing": nothing,
            "flag": bool(generator.random() < 0.4),
            "referent": int(generator.integers(20)),
        }
        for _ in range(60)
        for truth, nothing in [(random_mask(generator), bool(generator.random() < 0.3))]
    ]


def scored(samples, protocol, *, knows_nothing=True):
    rows = [
        count_row(
            each["prediction"],
            each["truth"],
            expression_id=number,
            referent_id=each["referent"],
            is_no_target=each["nothing"] and knows_nothing,
            predicted_no_target=each["flag"],
        )
        for number, each in enumerate(samples)
    ]
    return compute_metrics(np.stack(rows), protocol=PROTOCOLS[protocol])


def areas(samples):
    common = np.array([(each["prediction"] & each["truth"]).sum() for each in samples], float)
    union = np.array([(each["prediction"] | each["truth"]).sum() for each in samples], float)
    return common, union


def expect(found, wanted):
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-9)


def ious(common, union):
    return np.array([i / u if u else 0.0 for i, u in zip(common, union, strict=True)])


def usual(iou, common, union):
    wanted = {"mean_iou": iou.mean(), "overall_iou": common.sum() / union.sum()}
    return wanted | {f"precision_at_{p}": np.mean(iou >= p / 100) for p in PERCENTS}


@pytest.mark.parametrize("knows_nothing", [True, False])
def test_lavt_counts_every_sentence_and_an_empty_union_is_zero(samples, knows_nothing):
    common, union = areas(samples)
    found = scored(samples, "lavt", knows_nothing=knows_nothing)
    expect(found, usual(ious(common, union), common, union))


def test_refzom_keeps_zero_sentences_apart(samples):
    zero = np.array([each["nothing"] for each in samples])
    common, union = (values[~zero] for values in areas(samples))
    empty = np.array([not each["prediction"].any() for each in samples])
    wanted = usual(ious(common, union), common, union)
    expect(scored(samples, "refzom"), wanted | {"zero_sample_accuracy": empty[zero].mean()})


def test_grefcoco_believes_the_flag_and_keeps_the_union_of_what_it_drops(samples):
    common, union, values, hits = 0.0, 0.0, [], []
    tp = tn = fp = fn = 0
    for each, i, u in zip(samples, *areas(samples), strict=True):
        if each["nothing"]:
            tp, fn = tp + each["flag"], fn + (not each["flag"])
            values.append(float(each["flag"]))
            union += 0 if each["flag"] else u
            continue
        fp, tn = fp + each["flag"], tn + (not each["flag"])
        i = 0 if each["flag"] else i
        common, union = common + i, union + u
        values.append(i / u if u else 0.0)
        hits.append(values[-1])
    wanted = {
        "generalized_mean_iou": np.mean(values),
        "cumulative_iou": common / union,
        "no_target_accuracy": tp / (tp + fn),
        "target_accuracy": tn / (tn + fp),
    }
    wanted |= {f"precision_at_{p}": np.mean(np.array(hits) >= p / 100) for p in (70, 80, 90)}
    expect(scored(samples, "grefcoco"), wanted)
    released = {"no_target_accuracy": tp / (tp + fn + 1), "target_accuracy": tp / (tp + fp + 1)}
    expect(scored(samples, "mabp_released"), wanted | released)


def test_grser_gives_a_recognised_negative_one_and_a_confused_sample_zero(samples):
    values = [
        float(not each["prediction"].any()) if each["nothing"] else (i / u if u else 0.0)
        for each, i, u in zip(samples, *areas(samples), strict=True)
    ]
    recall = np.mean([v for v, each in zip(values, samples, strict=True) if each["nothing"]])
    wanted = {"adapted_mean_iou": np.mean(values), "negative_recall": recall}
    expect(scored(samples, "grser"), wanted)


def test_tris_leaves_out_what_released_code_would_print_as_nan(samples):
    common, union = areas(samples)
    kept = union > 0
    wanted = {
        "mean_iou": (common[kept] / union[kept]).mean(),
        "overall_iou": common.sum() / union.sum(),
    }
    expect(scored(samples, "tris", knows_nothing=False), wanted)


def test_tris_prms_weighs_by_n_in_means_and_n_squared_in_sums(samples):
    common, union = areas(samples)
    referent = np.array([each["referent"] for each in samples])
    weight = np.array([(referent == each).sum() for each in referent], float)
    kept = union > 0
    wanted = {
        "mean_iou": (common[kept] / union[kept]).mean(),
        "overall_iou": (weight * common).sum() / (weight * union).sum(),
    }
    expect(scored(samples, "tris_prms", knows_nothing=False), wanted)


@pytest.mark.parametrize("shift", [0.0, -9.0, 1e-5], ids=["mixed", "all below zero", "tiny"])
def test_tris_peak_and_mask_come_from_the_response_divided_by_its_maximum(shift):
    generator = np.random.default_rng(1)
    for _ in range(20):
        response = generator.integers(-3, 4, (HEIGHT, WIDTH)).astype(np.float32) + np.float32(shift)
        divided = response / (response.max() + np.float32(1e-5))
        row, column = np.unravel_index(divided.argmax(), divided.shape)
        assert find_peak(response, rule="peak_normalised") == (column, row)
        mask = mask_from_response(response, rule="peak_normalised")
        np.testing.assert_array_equal(mask, divided > 1e-9)


def test_tris_points_at_the_lowest_response_where_all_are_below_zero():
    response = np.array([[-1.0, -2.0], [-3.0, -1.5]])
    assert find_peak(response) == (0, 0)
    assert find_peak(response, rule="peak_normalised") == (0, 1)
