"""Encoders that are run stage by stage: the same numbers as their libraries', and the refusals."""

import dataclasses
import shutil

import pytest
import safetensors.torch
import timm
import torch
import transformers

from configs.segmenter._debug import DEBUG_CLIP
from configs.segmenter.dmmi_refcoco_unc import DEBUG_BERT, DEBUG_SWIN
from tris.batch import TokenizerConfig
from tris.data.tokens import build_tokenizer
from tris.encoders.bert import BertConfig
from tris.encoders.clip import ClipConfig
from tris.encoders.resnet import ResNetConfig
from tris.encoders.swin import SwinConfig
from tris.encoders.vision_language import VisionLanguageConfig, VisionLanguageEncoder
from tris.errors import InputError


@pytest.fixture
def images():
    return torch.randn(2, 3, 65, 79, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def swin_folder(tmp_path_factory):
    """A transformers Swin as the hub would give it."""
    torch.manual_seed(1)
    description = transformers.SwinConfig(
        embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 2], window_size=4
    )
    swin = transformers.SwinModel(description, add_pooling_layer=False)
    torch.nn.init.normal_(
        swin.encoder.layers[0]
        .blocks[0]
        .attention.relative_position_bias.relative_position_bias_table
    )
    folder = tmp_path_factory.mktemp("swin")
    swin.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_swin_loads_a_folder_and_equals_the_library(swin_folder, images):
    tower = dataclasses.replace(DEBUG_SWIN, pretrained=str(swin_folder)).build().eval()
    library = transformers.SwinModel.from_pretrained(swin_folder, add_pooling_layer=False).eval()
    expected = library(images, output_hidden_states=True, always_partition=True)
    last = tower.encode_pyramid(images)[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(library.layernorm(last), expected.last_hidden_state)


def test_swin_resizes_position_biases_to_its_window(swin_folder):
    wanted = dataclasses.replace(DEBUG_SWIN, pretrained=str(swin_folder), window_size=6)
    same = dataclasses.replace(wanted, window_size=4).build()
    key = "layers.0.blocks.0.attention.relative_position_bias.relative_position_bias_table"
    table, resized = (tower.state_dict()[key] for tower in (same, wanted.build()))
    assert resized.shape == (11**2, 1)
    square = table.T.reshape(1, 1, 7, 7)
    expected = torch.nn.functional.interpolate(square, (11, 11), mode="bicubic")
    torch.testing.assert_close(resized, expected.reshape(1, -1).T)


def test_swin_of_another_size_is_refused(swin_folder):
    wrong = dataclasses.replace(DEBUG_SWIN, pretrained=str(swin_folder), embed_dim=16)
    with pytest.raises(InputError, match="of another shape"):
        wrong.build()


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A transformers BERT as the hub would give it."""
    folder = tmp_path_factory.mktemp("bert")
    DEBUG_BERT.build().bert.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kept", [0, 5, -100])
@pytest.mark.parametrize("kind", ["swin", "bert"])
def test_torn_weights_are_one_sentence(kind, kept, swin_folder, bert_folder, tmp_path):
    whole, small = {"swin": (swin_folder, DEBUG_SWIN), "bert": (bert_folder, DEBUG_BERT)}[kind]
    torn = shutil.copytree(whole, tmp_path / "torn")
    file = torn / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"weights .*torn' cannot be fetched or read \(.* header"):
        dataclasses.replace(small, pretrained=str(torn)).build()


@pytest.mark.parametrize("kind", ["swin", "bert"])
def test_weights_that_a_release_lacks_are_named_not_drawn(kind, swin_folder, bert_folder, tmp_path):
    whole, small = {"swin": (swin_folder, DEBUG_SWIN), "bert": (bert_folder, DEBUG_BERT)}[kind]
    lacking = shutil.copytree(whole, tmp_path / "lacking")
    state = safetensors.torch.load_file(lacking / "model.safetensors")
    left_out = next(key for key in state if "layers.1" in key or "layer.1" in key)
    del state[left_out]
    safetensors.torch.save_file(state, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"missing \['\S*layers?\.1\.\S*'\]") as found:
        dataclasses.replace(small, pretrained=str(lacking)).build()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("config", [SwinConfig("./absent"), BertConfig("./absent")])
def test_absent_weights_are_named(config):
    small = {SwinConfig: DEBUG_SWIN, BertConfig: DEBUG_BERT}[type(config)]
    with pytest.raises(InputError, match=r"'./absent'"):
        dataclasses.replace(small, pretrained=config.pretrained).build()


@torch.no_grad()
def test_a_map_smaller_than_the_window_is_padded(images):
    tower = dataclasses.replace(DEBUG_SWIN, window_size=12).build().eval()
    assert tower.encode_pyramid(images)[-1].shape == (2, 64, 3, 3)


@torch.no_grad()
def test_resnet_equals_the_library(images, tmp_path):
    torch.manual_seed(2)
    library = timm.create_model("resnet26", pretrained=False).eval()
    weights = {key: value.contiguous() for key, value in library.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    tower = ResNetConfig("resnet26", str(tmp_path / "weights.safetensors")).build().eval()
    expected = library.forward_intermediates(images, intermediates_only=True)[1:]
    pyramid = tower.encode_pyramid(images)
    assert tuple(each.shape[1] for each in pyramid) == tower.channels
    for found, wanted in zip(pyramid, expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (ResNetConfig("vit_base_patch16_224"), "knows no ResNet"),
        (ResNetConfig("resnet26", "./absent.safetensors"), "no file"),
    ],
)
def test_resnet_refuses_what_it_cannot_find(config, word):
    with pytest.raises(InputError, match=word):
        config.build()


@torch.no_grad()
def test_bert_equals_the_library_and_ignores_padding(tmp_path):
    torch.manual_seed(3)
    made = DEBUG_BERT.build().bert
    made.save_pretrained(tmp_path / "bert")
    words = dataclasses.replace(DEBUG_BERT, pretrained=str(tmp_path / "bert")).build().eval()
    ids = torch.randint(1, 60, (2, 8))
    mask = torch.arange(8) < torch.tensor([[5], [8]])
    expected = made.eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(words(ids, mask)[mask], expected[mask])
    changed = ids.masked_fill(~mask, 7)
    torch.testing.assert_close(words(changed, mask)[mask], expected[mask])


def test_bert_trains_its_first_layers_only():
    words = dataclasses.replace(DEBUG_BERT, num_trained_layers=2).build()
    trained = {name for name, p in words.named_parameters() if p.requires_grad}
    assert trained == {
        name
        for name, _ in words.named_parameters()
        if name.startswith(("bert.encoder.layer.0.", "bert.encoder.layer.1."))
    }
    everything = dataclasses.replace(DEBUG_BERT, num_trained_layers=None).build()
    assert all(p.requires_grad for p in everything.parameters())


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["tris-small", "RN50-quickgelu"])
def test_clip_towers_equal_the_whole_clip(architecture, images):
    torch.manual_seed(4)
    config = ClipConfig(architecture, pretrained="")
    clip = config.build().eval()
    pyramid = clip.encode_pyramid(images)
    ids = torch.randint(1, 60, (2, 8))
    expected_words = clip.encode_words(ids)[0]
    encoder = VisionLanguageEncoder.from_clip(clip)
    for found, wanted in zip(encoder.vision.encode_pyramid(images), pyramid, strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(encoder.words(ids, ids > 0), expected_words)


def test_clip_without_stages_is_refused():
    vit = dataclasses.replace(DEBUG_CLIP, architecture="ViT-B-32-quickgelu")
    with pytest.raises(InputError, match="four stages"):
        VisionLanguageConfig("clip", "bert", bert=DEBUG_BERT, clip=vit).build()


def test_bert_tokenizer_is_read_from_a_folder(tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "ball", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = build_tokenizer(TokenizerConfig("bert", str(tmp_path), context_length=8))
    ids, mask = tokenizer(["Red balls"])
    assert ids.tolist() == [[2, 5, 6, 7, 3, 0, 0, 0]]
    assert mask.sum() == 5
