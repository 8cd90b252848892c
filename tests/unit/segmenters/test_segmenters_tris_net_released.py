import pytest
import torch

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.errors import InputError
from tris.segmenters.released import load_released
from tris.segmenters.tris_net import TrisNet, TrisNetConfig
from tris.segmenters.tris_net_released import convert_stage_two, released_key


def make_network(seed: int) -> TrisNet:
    torch.manual_seed(seed)
    config = TrisNetConfig(
        encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, decoder_channels=(8, 12, 16, 20)
    )
    return config.build().eval()


def as_released(network: TrisNet) -> dict[str, torch.Tensor]:
    """The network's weights as the released code would have stored them."""
    state = {released_key(key): value.clone() for key, value in network.state_dict().items()}
    for key, value in state.items():
        if key.endswith(("Wk.weight", "Wv.weight")):
            state[key] = value[..., None]
        if key.endswith("Ww.weight"):
            state[key] = value[..., None, None]
    return state


def test_weights_survive_the_way_through_the_released_layout():
    source, target = make_network(0), make_network(1)
    load_released(target, as_released(source), released_key)
    expected = source.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in target.state_dict().items())


def test_missing_and_unexpected_keys_are_listed():
    state = as_released(make_network(0))
    state["attention9.Wk.bias"] = state.pop("attention3.Wk.bias")
    with pytest.raises(
        InputError, match=r"missing \['attention3.Wk.bias'\].*\['attention9.Wk.bias'\]"
    ):
        load_released(make_network(1), state, released_key)


def test_weights_of_another_shape_are_listed():
    state = as_released(make_network(0))
    state["output1.bn.bias"] = torch.zeros(3)
    with pytest.raises(InputError, match=r"decoder.blocks.0.norm.bias \(3,\) != \(4,\)"):
        load_released(make_network(1), state, released_key)


def test_a_checkpoint_without_a_clip_tower_is_refused():
    with pytest.raises(InputError, match="has 0 blocks"):
        convert_stage_two({"classifier.weight": torch.zeros(1)})
