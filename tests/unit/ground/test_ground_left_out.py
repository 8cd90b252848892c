import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from tris.errors import InputError
from tris.left_out import (
    check_left_out,
    describe_left_out,
    digest_of_state,
    load_stored_state,
    stored_state,
)


class HalfStored(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.head = nn.Linear(2, 1)

    def left_out(self):
        return {"encoder.": "a-public-name"}


def same_head(first, second):
    return torch.equal(first.head.weight, second.head.weight)


def test_what_is_left_out_is_not_stored_and_stays_when_the_rest_is_loaded():
    saved, network = stored_state(HalfStored(seed=0)), HalfStored(seed=1)
    encoder = network.encoder[0].weight.clone()
    assert set(saved) == {"head.weight", "head.bias"}
    load_stored_state(network, saved)
    assert same_head(network, HalfStored(seed=0))
    assert torch.equal(network.encoder[0].weight, encoder)


def test_a_network_inside_another_leaves_out_under_its_prefix():
    outer = nn.ModuleDict({"net": HalfStored()})
    assert set(stored_state(outer)) == {"net.head.weight", "net.head.bias"}
    assert list(describe_left_out(outer)) == ["net.encoder."]


def test_an_average_leaves_out_the_same_and_counts_on():
    average = AveragedModel(HalfStored(), use_buffers=True)
    average.update_parameters(HalfStored(seed=1))
    state = stored_state(average)
    assert set(state) == {"n_averaged", "module.head.weight", "module.head.bias"}
    other = AveragedModel(HalfStored(seed=2), use_buffers=True)
    load_stored_state(other, state)
    assert int(other.n_averaged) == 1
    assert same_head(other.module, average.module)


def test_a_plain_module_is_stored_whole():
    module = nn.Linear(2, 2)
    assert set(stored_state(module)) == set(module.state_dict())
    assert describe_left_out(module) == {}
    with pytest.raises(RuntimeError, match="bias"):
        load_stored_state(module, {"weight": module.weight})


def test_the_digest_tells_values_names_and_types_apart():
    state = {"a": torch.zeros(2)}
    others = [{"a": torch.ones(2)}, {"b": torch.zeros(2)}, {"a": torch.zeros(2).half()}]
    assert digest_of_state({"a": torch.zeros(2)}) == digest_of_state(state)
    assert all(digest_of_state(other) != digest_of_state(state) for other in others)


def test_the_same_frozen_weights_pass_others_are_refused_by_name():
    saved = describe_left_out(HalfStored(seed=0))
    check_left_out(HalfStored(seed=0), saved, made="here")
    with pytest.raises(InputError, match=r"here was trained with the frozen weights a-public-name"):
        check_left_out(HalfStored(seed=1), saved, made="here")


def test_weights_left_out_on_one_side_only_are_refused():
    with pytest.raises(InputError, match="stored with it"):
        check_left_out(HalfStored(), {}, made="here")
    with pytest.raises(InputError, match="stored with it"):
        check_left_out(nn.Linear(2, 2), describe_left_out(HalfStored()), made="here")
