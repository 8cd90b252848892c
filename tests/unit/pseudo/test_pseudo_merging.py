import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tris.errors import InputError
from tris.pseudo.merging import cannot_tell_apart, margin_weights
from tris.pseudo.prms import PrmsConfig

OWNERS = torch.tensor([0, 0, 1, 1, 1, 2])


def make_similarity(seed, rows=6):
    return torch.rand(rows, rows, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def others(owner):
    return owner[:, None] != owner[None]


def naive_weights(similarity, owner, rivals, temperature, rival_weight):
    """The definition, pair by pair."""
    rows = range(len(owner))
    margins = []
    for i in rows:
        own = [float(similarity[i, j]) for j in rows if owner[j] == owner[i]]
        foreign = [float(similarity[i, k]) for k in rows if rivals[i, k]]
        strongest = max(foreign) if foreign else 0.0
        margins.append(sum(own) / len(own) - rival_weight * strongest)
    weights = []
    for i in rows:
        total = sum(math.exp(margins[j] / temperature) for j in rows if owner[j] == owner[i])
        weights.append(math.exp(margins[i] / temperature) / total)
    return weights, margins


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**16),
    st.sampled_from([0.05, 0.1, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
)
def test_weights_are_those_of_the_definition_pair_by_pair(seed, temperature, rival_weight, has_kin):
    similarity, rivals = make_similarity(seed), others(OWNERS)
    if has_kin:
        rivals &= ~((OWNERS[:, None] + OWNERS[None]) == 1)  # 0 and 1 are the same object
    settings_of_both = {"temperature": temperature, "rival_weight": rival_weight}
    weights, margins = margin_weights(similarity, OWNERS, rivals=rivals, **settings_of_both)
    wanted_weights, wanted_margins = naive_weights(similarity, OWNERS, rivals, **settings_of_both)
    torch.testing.assert_close(margins, torch.tensor(wanted_margins))
    torch.testing.assert_close(weights, torch.tensor(wanted_weights))


def test_the_weights_of_each_referent_sum_to_one():
    weights, _ = margin_weights(make_similarity(0), OWNERS, rivals=others(OWNERS), temperature=0.1)
    sums = torch.zeros(3).index_add(0, OWNERS, weights)
    torch.testing.assert_close(sums, torch.ones(3))


def test_without_rivals_it_is_a_softmax_over_the_own_score():
    similarity, owner = make_similarity(1, 3), torch.zeros(3, dtype=torch.long)
    weights, margins = margin_weights(similarity, owner, rivals=others(owner), temperature=0.2)
    torch.testing.assert_close(margins, similarity.mean(dim=1))
    torch.testing.assert_close(weights, (similarity.mean(dim=1) / 0.2).softmax(0))


def test_a_map_that_fits_a_neighbour_better_counts_little():
    similarity = torch.tensor([[0.6, 0.6, 0.9], [0.5, 0.5, 0.1], [0.0, 0.0, 0.5]])
    owner = torch.tensor([0, 0, 1])
    weights, _ = margin_weights(similarity, owner, rivals=others(owner), temperature=0.1)
    assert weights[0] < 0.01 < 0.99 < weights[1]


def test_a_small_temperature_picks_and_a_large_one_averages():
    similarity, owner = make_similarity(2, 3), torch.zeros(3, dtype=torch.long)
    cold, _ = margin_weights(similarity, owner, rivals=others(owner), temperature=1e-4)
    warm, _ = margin_weights(similarity, owner, rivals=others(owner), temperature=1e4)
    assert sorted(cold.tolist()) == pytest.approx([0, 0, 1], abs=1e-4)
    assert warm.tolist() == pytest.approx([1 / 3] * 3, abs=1e-4)


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"rival_weight": -1.0}])
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        PrmsConfig(**changes)


def test_referents_are_told_apart_by_one_direction_alone():
    owner = torch.tensor([0, 1])
    similarity = torch.tensor([[0.5, 0.5], [0.2, 0.6]])
    assert cannot_tell_apart(similarity, owner, tolerance=0.05).tolist() == [
        [True, False],
        [False, True],
    ]
    assert cannot_tell_apart(similarity, owner, tolerance=0.41).all()


def test_regions_are_judged_by_the_mean_over_maps_and_sentences():
    owner = torch.tensor([0, 0, 1])
    similarity = torch.tensor([[0.9, 0.5, 0.7], [0.5, 0.9, 0.7], [0.7, 0.7, 0.7]])
    assert cannot_tell_apart(similarity, owner, tolerance=1e-6).all()
