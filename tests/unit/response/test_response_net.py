"""The stage-1 network: shapes, independence of the batch, prompts, saving."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tris.errors import InputError
from tris.response.response_net import ResponseNet, ResponseNetConfig


def build(config: ResponseNetConfig, **changes) -> ResponseNet:
    torch.manual_seed(0)
    network = dataclasses.replace(config, **changes).build().eval()
    with torch.no_grad():  # a bias of 0 would hide the visual prompt
        network.prompt.visual_output[1].bias.normal_()
    return network


@pytest.mark.parametrize("prompt", ["both", "text_to_visual", "visual_to_text", "none"])
@pytest.mark.parametrize("attention", ["texts", "pixels"])
def test_an_expression_is_answered_alone_whatever_else_is_in_the_batch(
    tiny_config, tiny_batch, prompt, attention
):
    network = build(tiny_config, prompt=prompt, prompt_attention=attention)
    batch = tiny_batch([0, 1, 0, 0, 1])
    with torch.no_grad():
        together = network(batch).response_logits
        for row in range(5):
            image = int(batch.image_index[row])
            alone = batch._replace(
                images=batch.images[image : image + 1],
                token_ids=batch.token_ids[row : row + 1],
                image_index=torch.zeros(1, dtype=torch.long),
            )
            response = network(alone).response_logits[0]
            torch.testing.assert_close(response, together[row], atol=1e-4, rtol=1e-4)


def test_all_pairs_hold_the_own_maps_on_their_places(tiny_config, tiny_batch):
    network = build(tiny_config)
    with torch.no_grad():
        maps = network(tiny_batch([0, 1, 2]), all_pairs=True)
    assert maps.pairs.logits.shape == (3, 3, 8, 8)
    assert maps.pairs.is_own.equal(torch.eye(3, dtype=torch.bool))
    for row in range(3):
        assert maps.response_logits[row].equal(maps.pairs.logits[row, row])


def test_a_prompt_over_pixels_gives_every_text_its_own_map(tiny_config, tiny_batch):
    network = build(tiny_config, prompt_attention="pixels")
    batch = tiny_batch([0, 1])
    with torch.no_grad():
        visual = network.project_images(batch.images)
        texts = network.project_texts(batch.token_ids)[None]
        shared = build(tiny_config).prompt.prompt_pixels(visual, texts)
        own = network.prompt.prompt_pixels(visual, texts)
    assert shared.shape[:2] == (2, 1)
    assert own.shape[:2] == (2, 2)


def test_the_released_evaluation_depends_on_what_else_is_in_the_batch(tiny_config, tiny_batch):
    network = build(tiny_config, evaluation_texts="batch")
    batch = tiny_batch([0, 1, 2])
    with torch.no_grad():
        together = network(batch).response_logits
        pairs = network(batch, all_pairs=True).response_logits
        alone = build(tiny_config)(batch).response_logits
    assert together.equal(pairs)
    assert not torch.allclose(together, alone, atol=1e-3)


@pytest.mark.parametrize("trains", [True, False])
def test_the_temperature_is_trained_only_where_the_config_says_so(tiny_config, trains):
    network = build(tiny_config, train_temperature=trains)
    trained = {id(p) for group in network.parameter_groups(0.1) for p in group.parameters}
    assert (id(network.logit_scale) in trained) is trains


def test_every_trainable_weight_is_in_one_group_and_gets_a_gradient(tiny_config, tiny_batch):
    network = build(tiny_config).train()
    maps = network(tiny_batch([0, 1, 2]), all_pairs=True)
    maps.pairs.logits.square().mean().backward()
    grouped = [p for group in network.parameter_groups(0.1) for p in group.parameters]
    assert len(grouped) == len({id(p) for p in grouped})
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert {id(p) for p in grouped} == {id(p) for p in trainable.values()}
    assert [name for name, p in trainable.items() if p.grad is None] == []


def test_a_saved_network_answers_the_same(tiny_config, tiny_batch, tmp_path: Path):
    network = build(tiny_config)
    network.save_pretrained(tmp_path / "model")
    again = ResponseNet.from_pretrained(tmp_path / "model")
    batch = tiny_batch([0, 0, 1])
    with torch.no_grad():
        assert network(batch).response_logits.equal(again(batch).response_logits)
    assert again.config == network.config


def test_a_model_directory_with_missing_weights_is_refused_by_name(tiny_config, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    build(tiny_config).save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = load_file(path)
    del state["text_projection.bias"]
    save_file(state, path)
    with pytest.raises(InputError, match=r"missing \['text_projection\.bias'\]"):
        ResponseNet.from_pretrained(tmp_path / "model")
