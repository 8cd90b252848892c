"""The door to CLIP: small tower, word features, loading paths, refusals."""

import dataclasses
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch

from tris.batch import InputSpec
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.encoders.small_tower import AttentionPooling, SmallTower
from tris.errors import InputError

SMALL = ClipConfig("tris-small", pretrained="", input_spec=InputSpec(image_size=(96, 96)))


def test_a_cell_of_the_small_tower_stands_over_the_pixels_that_it_sees():
    tower = SmallTower(128).eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 0.01)
    images = torch.ones(1, 3, 96, 96, requires_grad=True)
    maps = tower.forward_intermediates(images, indices=[1, 4], intermediates_only=True)
    assert [tuple(each.shape[2:]) for each in maps] == [(24, 24), (12, 12)]
    maps[1][0, :, 6, 6].sum().backward()
    seen = images.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert len(seen) == 68
    assert (int(seen[0]) + int(seen[-1])) / 2 == (6 + 0.5) * 8 - 0.5


def test_pooling_is_attention_of_the_mean_over_all_cells():
    torch.manual_seed(0)
    pooling = AttentionPooling(24, 10, num_heads=3).double()
    features = torch.randn(5, 24, 4, 6, dtype=torch.float64)
    cells = features.flatten(2).transpose(1, 2)
    attention = torch.nn.MultiheadAttention(24, 3, batch_first=True).double()
    parts = (pooling.query, pooling.key, pooling.value)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        attention.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        attention.out_proj.weight.copy_(torch.eye(24))
        attention.out_proj.bias.zero_()
        attended, _ = attention(cells.mean(dim=1, keepdim=True), cells, cells)
        torch.testing.assert_close(pooling(features), pooling.output(attended[:, 0]))


def test_every_weight_of_the_pooling_has_a_gradient_in_either_precision():
    for precision in (torch.float32, torch.bfloat16):
        pooling = AttentionPooling(24, 10, num_heads=3)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            pooling(torch.randn(2, 24, 4, 4)).sum().backward()
        assert all(parameter.grad is not None for parameter in pooling.parameters())


def test_word_features_do_not_depend_on_padding_and_sentences_not_on_the_cut():
    encoder = SMALL.build().eval()
    ids = torch.tensor([[2, 5, 6, 63, 0, 0, 0, 0], [2, 7, 8, 9, 10, 63, 0, 0]])
    with torch.no_grad():
        words, sentences = encoder.encode_words(ids)
        shorter, _ = encoder.encode_words(ids[:, :6])
        embedded = encoder.embed_texts(ids)
    torch.testing.assert_close(words[:, :6], shorter)
    torch.testing.assert_close(sentences, embedded)


def test_weights_of_a_model_directory_are_taken_over(tmp_path: Path):
    first = SMALL.build()
    first.assets["tokenizer.json"] = b"{}"
    first.save_pretrained(tmp_path / "clip")
    again = dataclasses.replace(SMALL, pretrained=str(tmp_path / "clip")).build()
    for name, value in first.state_dict().items():
        assert again.state_dict()[name].equal(value), name
    assert again.assets == first.assets


def test_weights_of_an_open_clip_checkpoint_are_taken_over(tmp_path: Path):
    description = open_clip.get_model_config("tris-small")
    torch.manual_seed(1)
    clip = open_clip.CLIP(**description)
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    encoder = dataclasses.replace(SMALL, pretrained=str(tmp_path / "clip.pt")).build()
    for name, value in clip.state_dict().items():
        assert encoder.clip.state_dict()[name].equal(value), name


def test_every_published_tag_of_the_paper_is_known_to_open_clip():
    for architecture in ("RN50-quickgelu", "RN101-quickgelu", "ViT-B-32-quickgelu"):
        assert "openai" in open_clip.list_pretrained_tags_by_model(architecture)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "RN5O"}, "open_clip knows no model 'RN5O'"),
        ({"pretrained": "opanai"}, "'opanai' is no file, no model directory, and no weights"),
    ],
)
def test_a_slip_in_the_config_is_a_sentence(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SMALL, **changes).build()


def test_a_segmenter_directory_is_refused_as_a_clip(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"class": "os:path", "config_class": "", "config": {}}')
    with pytest.raises(InputError, match="may only name classes of tris"):
        ClipEncoder.from_pretrained(tmp_path)


def test_weights_that_cannot_be_downloaded_are_one_sentence(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError("no connection.\nMore of it.")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", refuse)
    with pytest.raises(InputError) as caught:
        ClipConfig(input_spec=SMALL.input_spec).build()
    assert str(caught.value) == (
        "The weights 'openai' of RN50-quickgelu could not be fetched (Failed to download weights "
        "for tag 'openai': no connection); download them once and name the file in `pretrained`."
    )


def test_weights_come_as_safetensors_or_under_state_dict_too(tmp_path):
    state = SMALL.build().clip.state_dict()
    safetensors.torch.save_file(state, tmp_path / "clip.safetensors")
    wrapped = {f"module.{name}": weights for name, weights in state.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "clip.pt")
    for name in ("clip.safetensors", "clip.pt"):
        encoder = dataclasses.replace(SMALL, pretrained=str(tmp_path / name)).build()
        for key, weights in state.items():
            assert encoder.clip.state_dict()[key].equal(weights), key


BROKEN = {
    "empty": b"",
    "text": b"no weights at all",
    "torn": {"weight": torch.zeros(300)},
    "a list": [1, 2],
    "no names": {"state_dict": 5},
    "code": Path("x"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_without_weights_is_one_sentence(kind, tmp_path):
    path, content = tmp_path / "clip.pt", BROKEN[kind]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:-200])
    message = {
        "a list": "holds something else than weights by name.",
        "no names": "holds something else than weights by name.",
        "text": "is no file of weights, or holds more than tensors and plain values",
        "code": "is no file of weights, or holds more than tensors and plain values",
    }.get(kind, "is damaged, or no file of weights")
    with pytest.raises(InputError, match=rf"clip\.pt {message}") as caught:
        dataclasses.replace(SMALL, pretrained=str(path)).build()
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_named_by_key(tmp_path):
    torch.save({"token_embedding.weight": torch.zeros(3, 5)}, tmp_path / "clip.pt")
    with pytest.raises(InputError, match=r"do not fit CLIP: missing \['ln_final.bias'"):
        dataclasses.replace(SMALL, pretrained=str(tmp_path / "clip.pt")).build()
