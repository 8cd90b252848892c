"""Every equation of the GRSer paper against a second, naive computation."""

import math

import pytest
import torch

from tris.batch import IGNORE_INDEX
from tris.segmenters.grser.anti_expression import negate
from tris.segmenters.grser.hierarchizer import (
    Sides,
    fill_slots,
    find_groups,
    hash_images,
    rank_members,
)
from tris.segmenters.grser.losses import (
    heatmap_cross_entropy,
    positive_cross_entropy,
    triplet_margin_loss,
)
from tris.segmenters.grser.queries import language_heatmap, make_prototypes, vision_heatmaps

GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(3, 5, 2, 4, generator=GENERATOR)
TEXT = torch.randn(3, 5, generator=GENERATOR)
GROUPS = torch.tensor([2, 0, 2, 0, 2, 1])
PROTOTYPES = torch.randn(6, 4, generator=GENERATOR)
SIDES = Sides(*torch.randn(2, 6, 4, generator=GENERATOR).expand(2, 6, 4).unbind())


def cosine(first, second):
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))


def distance(first, second):
    return math.dist(first.tolist(), second.tolist())


def test_equation_1_is_the_cosine_of_every_cell_with_the_text():
    heatmap = language_heatmap(FEATURES, TEXT)
    for n, y, x in [(0, 0, 0), (1, 1, 3), (2, 0, 2)]:
        expected = cosine(FEATURES[n, :, y, x].tolist(), TEXT[n].tolist())
        assert heatmap[n, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_equation_2_is_the_mean_of_heatmap_times_features_where_the_heatmap_is_positive():
    heatmap = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    heatmap[2] = -1.0
    prototypes = make_prototypes(FEATURES, heatmap)
    for n in range(3):
        for channel in range(5):
            cells = [(y, x) for y in range(2) for x in range(4) if heatmap[n, y, x] > 0]
            weights = [float(heatmap[n, y, x]) for y, x in cells]
            values = [float(FEATURES[n, channel, y, x]) for y, x in cells]
            total = sum(w * v for w, v in zip(weights, values, strict=True))
            expected = total / 8
            assert prototypes[n, channel].item() == pytest.approx(expected, abs=1e-6)


def test_equation_3_is_the_cosine_of_every_cell_with_each_prototype():
    experts = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(2))
    heatmaps = vision_heatmaps(FEATURES, experts)
    for n, i, y, x in [(0, 0, 0, 0), (1, 1, 1, 3), (2, 0, 0, 1)]:
        expected = cosine(FEATURES[n, :, y, x].tolist(), experts[n, i].tolist())
        assert heatmaps[n, i, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_pairs_of_one_number_are_a_group_and_number_0_is_none():
    members = find_groups(GROUPS)
    assert members[0].tolist() == [True, False, True, False, True, False]
    assert members[1].tolist() == [False, True, False, False, False, False]
    assert torch.equal(members, members.T)


def naive_places(rows, *, ranking):
    """Rank by sorting: near the expression first, far from the anti-expression first, add."""
    wanted = {i: distance(PROTOTYPES[i], SIDES.wanted[i]) for i in rows}
    unwanted = {i: distance(PROTOTYPES[i], SIDES.unwanted[i]) for i in rows}
    positive = {i: sorted(wanted.values()).index(wanted[i]) for i in rows}
    negative = {i: sorted(unwanted.values(), reverse=True).index(unwanted[i]) for i in rows}
    scores = {"both": (1, 1), "positive": (1, 0), "negative": (0, 1)}[ranking]
    keys = {
        i: (scores[0] * positive[i] + scores[1] * negative[i], wanted[i] - unwanted[i])
        for i in rows
    }
    order = sorted(rows, key=keys.get)
    return {row: place for place, row in enumerate(order)}


@pytest.mark.parametrize("ranking", ["both", "positive", "negative"])
def test_equation_4_orders_by_the_ranks_within_the_group(ranking):
    places = rank_members(PROTOTYPES, SIDES, find_groups(GROUPS), ranking=ranking)
    for rows in ([0, 2, 4], [1], [3], [5]):
        expected = naive_places(rows, ranking=ranking)
        assert {row: int(places[row]) for row in rows} == expected


def test_swapped_sides_turn_positive_and_negative_rank_round():
    members = find_groups(torch.ones(6, dtype=torch.long))
    first = rank_members(PROTOTYPES, SIDES, members, ranking="positive")
    second = rank_members(PROTOTYPES, SIDES.swapped(), members, ranking="negative")
    assert torch.equal(first, 5 - second)


def test_a_random_order_is_that_of_its_keys():
    keys = torch.tensor([0.5, 0.1, 0.2, 0.9, 0.3, 0.4])
    places = rank_members(
        PROTOTYPES, SIDES, find_groups(GROUPS), ranking="random", random_keys=keys
    )
    assert places.tolist() == [2, 0, 0, 0, 1, 0]
    assert len(set(hash_images(torch.arange(1000)).tolist())) == 1000


def test_a_group_as_large_as_the_slots_fills_each_with_its_own():
    members = find_groups(GROUPS)
    places = torch.tensor([1, 0, 2, 0, 0, 0])
    slots = fill_slots(places, members, 3)
    assert slots[0].tolist() == slots[2].tolist() == slots[4].tolist() == [4, 0, 2]
    assert slots[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [0] * 8),
        (2, [0] * 4 + [1] * 4),
        (4, [0, 0, 1, 1, 2, 2, 3, 3]),
        (5, [0, 1, 1, 2, 2, 3, 3, 4]),
        (16, [0, 2, 4, 6, 9, 11, 13, 15]),
    ],
)
def test_groups_of_other_sizes_are_spread_over_the_slots_from_best_to_worst(size, expected):
    members = torch.ones(size, size, dtype=torch.bool)
    slots = fill_slots(torch.arange(size), members, 8)
    assert slots.tolist() == [expected] * size


def test_equation_5_pulls_positives_to_the_text_and_negatives_from_it():
    to_text, to_anti = torch.tensor([1.0, 4.0, 1.0, 4.0]), torch.tensor([3.0, 3.5, 3.0, 3.5])
    is_positive = torch.tensor([True, True, False, False])
    terms = [0.0, 4.0 - 3.5 + 1, 3.0 - 1.0 + 1, 3.5 - 4.0 + 1]
    loss = triplet_margin_loss(to_text, to_anti, is_positive, margin=1.0)
    assert loss.item() == pytest.approx(sum(terms) / 4)


def naive_cross_entropy(logits, targets, rows, *, weight, is_mirror):
    means = []
    for row in rows:
        pixels = []
        for logit, target in zip(logits[row].flatten(), targets[row].flatten(), strict=True):
            if target != IGNORE_INDEX:
                probability = 1 / (1 + math.exp(-float(logit)))
                is_one = (target == 1) != is_mirror
                loss = -math.log(probability if is_one else 1 - probability)
                pixels.append(loss * (weight if target == 1 else 1.0))
        means.append(sum(pixels) / max(1, len(pixels)))
    return sum(means) / len(rows)


@pytest.mark.parametrize("is_mirror", [False, True])
def test_equation_6_learns_masks_of_positives_and_their_background_in_the_mirror(is_mirror):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, 3, generator=generator)
    targets = torch.randint(0, 3, (4, 3, 3), generator=generator).to(torch.uint8)
    targets[targets == 2] = IGNORE_INDEX
    targets[2] = IGNORE_INDEX
    loss = positive_cross_entropy(
        logits, targets, torch.tensor([True, False, True, True]), positive_weight=3.0,
        is_mirror=is_mirror,
    )  # fmt: skip
    expected = naive_cross_entropy(logits, targets, [0, 2, 3], weight=3.0, is_mirror=is_mirror)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_heatmap_is_to_light_up_on_the_object_and_nowhere_in_negatives():
    targets = torch.zeros(2, 8, 8, dtype=torch.uint8)
    targets[0, :, :4] = 1
    on_object = torch.tensor([[0.5, -0.5], [0.5, -0.5]])
    right = torch.stack([on_object, torch.full((2, 2), -0.5)])
    assert heatmap_cross_entropy(right, targets) < 0.3
    assert heatmap_cross_entropy(-right, targets) > 2
    assert heatmap_cross_entropy(on_object.expand(2, 2, 2), targets) > 1
    assert heatmap_cross_entropy(-right, targets, is_mirror=True) < 0.3


def test_without_a_positive_pair_no_mask_is_learned():
    logits = torch.randn(2, 3, 3, requires_grad=True)
    nothing = torch.zeros(2, 3, 3, dtype=torch.uint8)
    loss = positive_cross_entropy(logits, nothing, torch.tensor([False, False]))
    assert loss.item() == 0


def test_the_prefix_stands_behind_the_start_token():
    ids = torch.tensor([[2, 10, 11, 3, 0, 0, 0, 0], [2, 10, 11, 12, 13, 14, 15, 3]])
    mask = ids > 0
    anti_ids, anti_mask = negate(ids, mask, (7, 8))
    assert anti_ids.tolist() == [[2, 7, 8, 10, 11, 3, 0, 0], [2, 7, 8, 10, 11, 12, 13, 3]]
    assert torch.equal(anti_mask, anti_ids > 0)
