from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tris.metrics.iou import mask_from_response
from tris.metrics.protocols import PROTOCOLS, STANDARD
from tris.metrics.rows import NUM_COLUMNS, Counts, merge_rows
from tris.metrics.summary import compute_by_group, compute_metrics


def row(number, intersection, union, *, referent=None, **columns):
    area = columns.pop("prediction_area", intersection)
    values = Counts(
        expression_id=number,
        referent_id=number if referent is None else referent,
        sequence_id=number,
        image_area=1000,
        intersection=intersection,
        union=union,
        prediction_area=area,
        target_area=union - area + intersection,
        is_no_target=columns.pop("is_no_target", 0),
        predicted_no_target=columns.pop("predicted_no_target", int(area == 0)),
        **columns,
    )
    return np.array(values, dtype=np.int64)


def no_target(number, area, **columns):
    return row(number, 0, area, prediction_area=area, is_no_target=1, **columns)


def score(*rows, **policies):
    return compute_metrics(np.stack(rows), protocol=replace(STANDARD, **policies))


counts = st.integers(1, 400).flatmap(
    lambda union: st.tuples(st.integers(0, union), st.just(union), st.booleans())
)


@given(st.lists(counts, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_iou_metrics_equal_their_definitions(samples):
    rows = [row(n, i, u) for n, (i, u, _) in enumerate(samples)]
    iou = np.array([i / u for i, u, _ in samples])
    metrics = score(*rows)
    assert metrics["mean_iou"] == pytest.approx(iou.mean())
    total = sum(u for _, u, _ in samples)
    assert metrics["overall_iou"] == pytest.approx(sum(i for i, _, _ in samples) / total)
    for percent in (50, 60, 70, 80, 90):
        assert metrics[f"precision_at_{percent}"] == pytest.approx((iou >= percent / 100).mean())


@given(st.lists(counts, min_size=1, max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=60, deadline=None)
def test_gres_metrics_equal_their_definitions(samples, flags):
    rows, values, inter, union = [], [], 0, 0
    for number, (i, u, has_target) in enumerate(samples):
        flag = flags[number]
        flagged = {"predicted_no_target": int(flag)}
        rows.append(row(number, i, u, **flagged) if has_target else no_target(number, u, **flagged))
        if has_target:
            values.append(0 if flag else i / u)
            inter, union = inter + (0 if flag else i), union + u
        else:
            values.append(float(flag))
            union += 0 if flag else u
    metrics = compute_metrics(np.stack(rows), protocol=PROTOCOLS["grefcoco"])
    assert metrics["generalized_mean_iou"] == pytest.approx(np.mean(values))
    assert metrics.get("cumulative_iou") == (pytest.approx(inter / union) if union else None)
    targeted = np.array([has_target for _, _, has_target in samples])
    said_no = np.array(flags[: len(samples)])
    assert ("target_accuracy" in metrics) == targeted.any()
    if targeted.any():
        assert metrics["target_accuracy"] == pytest.approx((~said_no)[targeted].mean())
    if (~targeted).any():
        assert metrics["no_target_accuracy"] == pytest.approx(said_no[~targeted].mean())


@given(st.lists(counts, min_size=2, max_size=10), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_batch_split_and_duplicates_change_nothing(samples, random):
    rows = [
        row(n, i, u, referent=n // 2) if has_target else no_target(n, u, referent=n // 2)
        for n, (i, u, has_target) in enumerate(samples)
    ]
    shuffled = [*rows, random.choice(rows)]
    random.shuffle(shuffled)
    half = ceil(len(shuffled) / 2)
    parts = [np.stack(shuffled[:half]), np.stack(shuffled[half:])]
    for protocol in PROTOCOLS.values():
        whole = compute_metrics(np.stack(rows), protocol=protocol)
        assert compute_metrics(np.stack(shuffled), protocol=protocol) == whole
        assert compute_metrics(merge_rows(parts), protocol=protocol) == whole


@pytest.mark.parametrize(("policy", "expected"), [("zero", 0.25), ("one", 0.75), ("skip", 0.5)])
def test_an_empty_union_follows_the_policy(policy, expected):
    rows = [row(1, 0, 0), row(2, 5, 10)]
    assert score(*rows, scope="all", empty_union=policy)["mean_iou"] == expected


def test_no_target_expressions_are_outside_iou_unless_the_scope_is_all():
    rows = [row(1, 5, 10), no_target(2, 30)]
    assert score(*rows)["mean_iou"] == 0.5
    everything = score(*rows, scope="all")
    assert (everything["mean_iou"], everything["overall_iou"]) == (0.25, 5 / 40)


def test_one_object_with_many_sentences_weighs_as_the_policy_says():
    rows = [row(n, 8, 10, referent=1) for n in (1, 2, 3)] + [row(4, 2, 10, referent=2)]
    per_expression = score(*rows)
    per_referent = score(*rows, weighting="referent")
    released = score(*rows, weighting="released_prms")
    assert per_expression["overall_iou"] == pytest.approx(26 / 40)
    assert per_referent["overall_iou"] == pytest.approx(10 / 20)
    assert released["overall_iou"] == pytest.approx((9 * 8 + 2) / (9 * 10 + 10))
    assert per_expression["mean_iou"] == released["mean_iou"] == pytest.approx(0.65)
    assert per_referent["mean_iou"] == pytest.approx(0.5)


@pytest.mark.parametrize("tenth", [5, 6, 7, 8, 9])
def test_an_iou_exactly_at_the_threshold_passes_unless_strict(tenth):
    name = f"precision_at_{tenth}0"
    assert score(row(1, tenth, 10))[name] == 1
    assert score(row(1, tenth, 10), precision_is_strict=True)[name] == 0


def test_masks_below_the_minimum_area_count_as_empty():
    rows = [row(1, 49, 100, prediction_area=49), no_target(2, 49, predicted_no_target=0)]
    kept = score(*rows)
    dropped = score(*rows, minimum_area=50)
    assert (kept["mean_iou"], kept["no_target_accuracy"], kept["cumulative_iou"]) == (
        0.49,
        0,
        49 / 149,
    )
    assert (dropped["mean_iou"], dropped["no_target_accuracy"]) == (0, 1)
    assert dropped["zero_sample_accuracy"] == 1


def test_a_mask_of_exactly_the_minimum_area_stays():
    assert score(row(1, 50, 100, prediction_area=50), minimum_area=50)["mean_iou"] == 0.5


@pytest.mark.parametrize(
    ("rule", "expected"), [("head", (1, 0)), ("empty_mask", (0, 1)), ("either", (1, 1))]
)
def test_what_says_no_target_follows_the_policy(rule, expected):
    flagged = no_target(1, 20, predicted_no_target=1)
    empty = no_target(2, 0, predicted_no_target=0)
    found = [score(each, no_target_by=rule)["no_target_accuracy"] for each in (flagged, empty)]
    assert tuple(found) == expected


def test_a_wrong_refusal_loses_its_intersection_and_keeps_its_union():
    refused = row(1, 8, 10, predicted_no_target=1)
    metrics = compute_metrics(np.stack([refused, row(2, 5, 10)]), protocol=PROTOCOLS["grefcoco"])
    assert metrics["cumulative_iou"] == 5 / 20
    assert metrics["generalized_mean_iou"] == 0.25


def test_evaluators_without_a_head_ignore_the_flag():
    flagged = row(1, 8, 10, predicted_no_target=1)
    for name in ("tris", "lavt", "refzom", "grser"):
        assert compute_metrics(flagged[None], protocol=PROTOCOLS[name])["mean_iou"] == 0.8


def test_refzom_accuracy_needs_a_mask_without_a_pixel_whatever_the_head_says():
    rows = [no_target(1, 1, predicted_no_target=1), no_target(2, 0)]
    assert score(*rows, no_target_by="head")["zero_sample_accuracy"] == 0.5


def test_mabp_formulas_are_those_of_its_code():
    rows = [no_target(1, 0), no_target(2, 0), no_target(3, 5)]
    rows += [row(4, 0, 10, prediction_area=0), row(5, 5, 10)]
    metrics = score(*rows, accuracy_formula="released_mabp")
    assert metrics["no_target_accuracy"] == 2 / (2 + 1 + 1)
    assert metrics["target_accuracy"] == 2 / (2 + 1 + 1)


def test_grser_averages_true_negatives_as_one_and_both_errors_as_zero():
    rows = [row(1, 6, 10), row(2, 0, 10, prediction_area=0), no_target(3, 0), no_target(4, 5)]
    metrics = compute_metrics(np.stack(rows), protocol=PROTOCOLS["grser"])
    assert metrics["adapted_mean_iou"] == pytest.approx((0.6 + 0 + 1 + 0) / 4)
    assert metrics["negative_recall"] == 0.5


def test_metrics_without_anything_to_speak_of_are_absent():
    metrics = score(row(1, 5, 10))
    absent = {"peak_in_mask_accuracy", "box_accuracy", "no_target_accuracy", "region_similarity"}
    assert not absent & set(metrics)
    assert compute_metrics(np.zeros((0, NUM_COLUMNS), dtype=np.int64)) == {}
    assert "mean_iou" not in score(no_target(1, 0))


def test_small_true_boxes_are_left_out_where_the_protocol_says():
    rows = [row(1, 5, 10, target_box_area=50), row(2, 8, 10, target_box_area=51)]
    assert compute_metrics(np.stack(rows), protocol=PROTOCOLS["tris_referit"])["mean_iou"] == 0.8


def test_groups_of_expressions_are_scored_apart():
    rows = np.stack([row(1, 5, 10), row(2, 8, 10), row(3, 1, 10)])
    groups = compute_by_group(rows, {1: "colour", 2: "place"})
    assert {name: each["mean_iou"] for name, each in groups.items()} == {
        "colour": 0.5,
        "place": 0.8,
    }


def test_a_response_becomes_a_mask_above_zero():
    response = np.array([[-1.0, 0.0], [1e-12, 2.0]])
    assert mask_from_response(response).tolist() == [[False, False], [True, True]]


def test_the_released_mask_rule_turns_an_all_negative_response_into_a_full_mask():
    response = np.full((2, 2), -3.0)
    assert not mask_from_response(response).any()
    assert mask_from_response(response, rule="peak_normalised").all()
    barely = np.full((2, 2), -1e-6)
    assert not mask_from_response(barely, rule="peak_normalised").any()
