"""Released MABP checkpoints: what is read off them, what is refused."""

import argparse

import pytest
import torch

from configs.segmenter import mabp_grefcoco_unc
from tris.cli.convert import main
from tris.errors import InputError
from tris.segmenters.mabp import Mabp
from tris.segmenters.mabp.released import convert_mabp, released_source


def make_released(network) -> dict[str, torch.Tensor]:
    """Return a network's weights as the released code would have saved them."""
    state: dict[str, torch.Tensor] = {}
    thirds: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in network.state_dict().items():
        source = released_source(key)
        if source.third is None:
            is_fusion = ".fusion." in source.key or "res_gate" in source.key
            state[source.key] = value.flatten(2) if is_fusion and value.ndim == 4 else value
        else:
            thirds.setdefault(source.key, {})[source.third] = value
    for key, parts in thirds.items():
        state[key] = torch.cat([parts[i] for i in range(3)])
    state["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    state["text_encoder.embeddings.position_ids"] = torch.arange(8)[None]
    return state


@pytest.fixture(scope="module")
def network() -> Mabp:
    torch.manual_seed(0)
    config = mabp_grefcoco_unc.get_debug_config()
    swin, bert, decoder = config.encoder.swin, config.encoder.bert, config.decoder
    replaced = {
        "input_spec": config.input_spec.__class__(
            tokenizer=config.input_spec.tokenizer.__class__(context_length=20)
        ),
        "decoder": decoder.__class__(**{**vars(decoder), "num_attention_heads": 8}),
        "encoder": config.encoder.__class__(
            swin=swin, bert=bert.__class__(**{**vars(bert), "num_heads": 1, "max_tokens": 20})
        ),
    }
    return config.__class__(**{**vars(config), **replaced}).build(pretrained=False).eval()


@pytest.fixture
def released(network):
    return make_released(network)


def test_every_weight_arrives(network, released):
    converted = convert_mabp(released)
    own, expected = converted.state_dict(), network.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], expected[key]) for key in own)


def test_sizes_are_read_off_the_weights(network, released):
    config = convert_mabp(released).config
    assert config.decoder == network.config.decoder
    assert config.pixel_decoder == network.config.pixel_decoder
    assert config.encoder.swin.depths == (1, 1, 1, 1)
    assert config.encoder.swin.window_size == 4
    assert config.encoder.swin.pretrained == config.encoder.bert.pretrained == ""


def test_long_sentences_are_cut_blindly_as_in_training(released):
    tokenizer = convert_mabp(released).input_spec.tokenizer
    assert tokenizer.kind == "bert"
    assert tokenizer.context_length == 20
    assert not tokenizer.keep_end_token


def test_the_single_object_variant_has_no_no_target_branch(released):
    names = ("nt_", "pooler_src_proj")
    state = {k: v for k, v in released.items() if not k.split(".")[2].startswith(names)}
    assert len(state) < len(released)
    assert convert_mabp(state).config.decoder.num_no_target_heads == 0


def test_missing_and_unexpected_keys_are_listed(released):
    del released["sem_seg_head.predictor.lango_proj.bias"]
    released["something.else"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"missing.*lango_proj.bias.*unexpected.*something.else"):
        convert_mabp(released)


def test_a_weight_of_another_shape_is_named(released):
    released["sem_seg_head.predictor.lango_proj.bias"] = torch.zeros(5)
    with pytest.raises(InputError, match=r"generator\.output\.bias"):
        convert_mabp(released)


def test_a_checkpoint_of_something_else_is_a_sentence():
    with pytest.raises(InputError, match="checkpoint of MABP"):
        convert_mabp({"backbone.conv1.weight": torch.zeros(1)})


def test_the_command_makes_a_model_directory(network, released, tmp_path):
    file = tmp_path / "released.pth"
    torch.save({"model": released, "args": argparse.Namespace(seed=1)}, file)
    main([str(file), "--from", "mabp", "--out", str(tmp_path / "model")])
    loaded = Mabp.from_pretrained(tmp_path / "model")
    key = "decoder.generator.output.weight"
    assert torch.equal(loaded.state_dict()[key], network.state_dict()[key])
