import dataclasses
import shutil

import pytest
import torch
import transformers

from tris.encoders.sam import SamArchitecture, SamEncoderConfig
from tris.errors import InputError

ARCHITECTURE = SamArchitecture(
    dim=16, num_layers=3, num_heads=2, mlp_dim=24, neck_channels=8, image_size=64, patch_size=8,
    window_size=3, global_layers=(1, 2),
)  # fmt: skip
CONFIG = SamEncoderConfig("", ARCHITECTURE, shallow_layer=0, middle_layer=1)


def make_encoder(config=CONFIG):
    torch.manual_seed(0)
    encoder = config.build().eval()
    for name, weight in encoder.named_parameters():
        if "pos" in name:  # transformers starts positions at zero
            torch.nn.init.normal_(weight, std=0.1)
    return encoder


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "vision"
    encoder.sam.save_pretrained(path)
    return path


@torch.no_grad()
def test_at_the_trained_size_the_maps_are_those_of_transformers(encoder):
    images = torch.randn(2, 3, 64, 64)
    whole = encoder.sam(images, output_hidden_states=True)
    shallow, middle, deep = encoder(images)
    torch.testing.assert_close(deep, whole.last_hidden_state)
    for features, number in ((shallow, 0), (middle, 1)):
        hidden = whole.hidden_states[number + 1].permute(0, 3, 1, 2)
        torch.testing.assert_close(features, hidden)


@torch.no_grad()
@pytest.mark.parametrize(("size", "cells"), [((65, 79), (9, 10)), ((32, 96), (4, 12))])
def test_images_of_any_size_have_a_cell_per_patch(encoder, size, cells):
    maps = encoder(torch.randn(1, 3, *size))
    assert [tuple(each.shape) for each in maps] == [(1, c, *cells) for c in encoder.channels]
    assert all(each.isfinite().all() for each in maps)


@torch.no_grad()
def test_padding_to_whole_patches_is_black(encoder):
    image = torch.randn(1, 3, 60, 64)
    padded = torch.nn.functional.pad(image, (0, 0, 0, 4))
    torch.testing.assert_close(encoder(image), encoder(padded))


@torch.no_grad()
def test_pretrained_weights_come_with_their_sizes(encoder, folder):
    loaded = SamEncoderConfig(str(folder), shallow_layer=0, middle_layer=1).build().eval()
    assert loaded.config.architecture == ARCHITECTURE
    image = torch.randn(1, 3, 64, 64)
    assert all(map(torch.equal, loaded(image), encoder(image)))


@torch.no_grad()
def test_a_whole_sam_gives_its_image_encoder(encoder, tmp_path):
    vision = encoder.sam.config
    prompt = transformers.SamPromptEncoderConfig(
        hidden_size=8, image_size=64, patch_size=8, image_embedding_size=8, mask_input_channels=4
    )
    mask = transformers.SamMaskDecoderConfig(
        hidden_size=8, mlp_dim=8, num_attention_heads=2, iou_head_hidden_dim=8
    )
    sam = transformers.SamModel(
        transformers.SamConfig(
            vision_config=vision.to_dict(),
            prompt_encoder_config=prompt.to_dict(),
            mask_decoder_config=mask.to_dict(),
        )
    )
    sam.vision_encoder.load_state_dict(encoder.sam.vision_encoder.state_dict())
    sam.save_pretrained(tmp_path)
    loaded = SamEncoderConfig(str(tmp_path), shallow_layer=0, middle_layer=1).build().eval()
    image = torch.randn(1, 3, 64, 64)
    assert all(map(torch.equal, loaded(image), encoder(image)))


def test_the_first_two_global_layers_are_read_unless_told():
    config = dataclasses.replace(CONFIG, shallow_layer=None, middle_layer=None)
    assert config.build().layer_numbers == (1, 2)


def test_layers_out_of_order_are_refused():
    with pytest.raises(InputError, match="rising order"):
        dataclasses.replace(CONFIG, shallow_layer=2, middle_layer=1).build()


@pytest.mark.parametrize("kept", [0, -100])
def test_torn_weights_are_one_sentence(kept, folder, tmp_path):
    torn = shutil.copytree(folder, tmp_path / "torn")
    file = torn / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"weights .*torn' cannot be fetched or read \(.* header"):
        dataclasses.replace(CONFIG, pretrained=str(torn)).build()


def test_a_folder_without_a_sam_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"The SAM weights .* cannot be fetched or read"):
        SamEncoderConfig(str(tmp_path / "nothing")).build()
