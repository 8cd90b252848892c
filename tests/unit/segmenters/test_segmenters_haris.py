import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch

from configs.segmenter import haris_refcoco_unc, haris_synthetic
from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.batch import Batch, InputSpec, TokenizerConfig
from tris.data.tokens import TOKENIZER_FILE
from tris.errors import InputError
from tris.left_out import describe_left_out, stored_state
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.contract import Segmenter
from tris.segmenters.haris import HarisConfig
from tris.segmenters.haris import network as haris_network

REPOSITORY = Path(__file__).resolve().parents[3]
SAM, CLIP = haris_refcoco_unc.get_debug_config(), haris_synthetic.get_debug_config()


def make_batch(size=(64, 64), num_images=2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(num_images)
    return Batch(
        images=torch.randn(num_images, 3, *size, generator=generator),
        image_id=index,
        original_size=torch.tensor([size] * num_images),
        content_size=torch.tensor([size] * num_images),
        token_ids=torch.randint(1, 60, (num_images, 8), generator=generator),
        token_mask=torch.ones(num_images, 8, dtype=torch.bool),
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index,
        is_no_target=torch.zeros(num_images, dtype=torch.bool),
        group_index=torch.zeros(num_images, dtype=torch.long),
        targets=torch.randint(0, 2, (num_images, *size), generator=generator).to(torch.uint8),
    )


def build(config, **changes):
    torch.manual_seed(0)
    return dataclasses.replace(config, **changes).build()


def gradient_names(network):
    batch = make_batch()
    torch.stack(list(network.loss(network(batch), batch).values())).sum().backward()
    return {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A pretrained SAM and a pretrained CLIP, each in a folder."""
    folder = tmp_path_factory.mktemp("sources")
    torch.manual_seed(3)
    SAM.sam.build().sam.save_pretrained(folder / "sam")
    DEBUG_CLIP.build().save_pretrained(folder / "clip")
    return folder


def on_sources(sources, **changes) -> HarisConfig:
    return dataclasses.replace(
        SAM,
        sam=dataclasses.replace(SAM.sam, pretrained=str(sources / "sam")),
        clip=dataclasses.replace(DEBUG_CLIP, pretrained=str(sources / "clip")),
        **changes,
    )


class TestFrozen:
    @pytest.mark.parametrize("config", [SAM, CLIP])
    def test_encoders_get_no_gradient_and_stay_in_evaluation(self, config):
        network = build(config).train()
        assert network.training
        assert network.decoder.training
        encoders = [*network.text_encoder.modules(), *network.image_encoder.modules()]
        assert not any(module.training for module in encoders)
        reached = gradient_names(network)
        assert reached
        assert not any(name.startswith(("text_encoder", "image_encoder")) for name in reached)

    def test_an_image_tower_that_learns_does_and_has_its_own_rate(self):
        network = build(CLIP, image_encoder_trainable=True).train()
        assert network.image_encoder.training
        assert not network.text_encoder.training
        assert any(name.startswith("image_encoder") for name in gradient_names(network))
        rates = {group.name: group.learning_rate_scale for group in network.parameter_groups()}
        assert rates == {"image_encoder": 0.1, "heads": 1.0}

    def test_sam_does_not_learn(self):
        with pytest.raises(InputError, match="SAM stays frozen"):
            build(SAM, image_encoder_trainable=True)

    def test_a_clip_without_pyramid_serves_the_text_but_cannot_stand_in_for_sam(self, tmp_path):
        vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
        text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
        description = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
        (tmp_path / "tiny-vit.json").write_text(json.dumps(description))
        open_clip.add_model_config(tmp_path)
        clip = dataclasses.replace(DEBUG_CLIP, architecture="tiny-vit")
        assert build(SAM, clip=clip)(make_batch()).mask_logits.isfinite().all()
        with pytest.raises(InputError, match="no pyramid"):
            build(CLIP, clip=clip)


class TestAblations:
    @pytest.mark.parametrize(
        "changes",
        [
            {"has_feedback": False}, {"has_hierarchy": False}, {"has_vision_weighting": False},
            {"has_language_weighting": False}, {"block": "cross_attention"},
            {"decoder": "product"}, {"decoder": "pixels"},
        ],
        ids=str,
    )  # fmt: skip
    def test_each_trains_every_weight_it_has(self, changes):
        network = build(CLIP, **changes).train()
        reached = gradient_names(network)
        wanted = {n for n, p in network.named_parameters() if p.requires_grad and p.ndim > 1}
        assert wanted <= reached

    def test_levels_of_clip_are_read_at_the_size_of_the_grid_level(self):
        network = build(CLIP, clip_levels=(1, 3, 4), clip_grid_level=1)
        maps = network.image_encoder(make_batch().images)
        assert [tuple(each.shape[1:]) for each in maps] == [(c, 16, 16) for c in (32, 96, 128)]
        with pytest.raises(InputError, match="levels 1 to 4"):
            build(CLIP, clip_levels=(0, 3, 4))

    def test_without_hierarchy_only_the_deep_map_is_read(self):
        network = build(CLIP, has_hierarchy=False)
        assert len(network.levels) == 1
        assert network.levels[0].norm.normalized_shape == (network.image_encoder.channels[-1],)


class TestLoss:
    def test_it_is_focal_plus_dice_with_their_weights(self):
        network, batch = build(CLIP), make_batch()
        output = network(batch)
        once = network.loss(output, batch)
        network.config = dataclasses.replace(network.config, focal_weight=2.0, dice_weight=3.0)
        weighed = network.loss(output, batch)
        assert list(once) == ["focal_loss", "dice_loss"]
        assert weighed["focal_loss"].item() == pytest.approx(2 * once["focal_loss"].item())
        assert weighed["dice_loss"].item() == pytest.approx(3 * once["dice_loss"].item())


class TestStoredWeights:
    def test_random_and_local_weights_are_stored(self, sources, tmp_path):
        for number, config in enumerate((SAM, on_sources(sources))):
            network = build(config)
            network.save_pretrained(tmp_path / str(number))
            state = safetensors.torch.load_file(tmp_path / str(number) / "model.safetensors")
            assert set(state) == set(network.state_dict())
            assert network.left_out() == {}

    def test_a_local_folder_is_not_needed_once_its_weights_are_stored(self, sources, tmp_path):
        config = on_sources(sources)
        network = build(config).eval()
        network.save_pretrained(tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        path.write_text(path.read_text().replace(str(sources), "/not/here"))
        loaded = Segmenter.from_pretrained(tmp_path / "model")
        batch = make_batch()
        assert torch.equal(loaded(batch).mask_logits, network(batch).mask_logits)

    def test_weights_with_a_public_name_are_left_out(self):
        config = haris_refcoco_unc.get_config().network
        assert config.leaves_out_sam
        assert config.leaves_out_clip
        stored = dataclasses.replace(config, frozen_weights="stored")
        assert not stored.leaves_out_sam
        assert not stored.leaves_out_clip

    def test_what_is_left_out_stands_in_config_json_by_name_and_digest(self, sources, tmp_path):
        network = build(on_sources(sources, frozen_weights="left_out")).eval()
        network.save_pretrained(tmp_path / "model")
        state = safetensors.torch.load_file(tmp_path / "model" / "model.safetensors")
        assert not [key for key in state if key.startswith(("text_encoder.", "image_encoder."))]
        left_out = json.loads((tmp_path / "model" / "config.json").read_text())["left_out"]
        assert left_out["image_encoder."]["source"] == str(sources / "sam")
        assert left_out == describe_left_out(network)
        loaded = Segmenter.from_pretrained(tmp_path / "model")
        batch = make_batch()
        assert torch.equal(loaded(batch).mask_logits, network(batch).mask_logits)

    @pytest.mark.parametrize("part", ["sam", "clip"])
    def test_another_encoder_under_the_same_name_is_refused(self, sources, tmp_path, part):
        build(on_sources(sources, frozen_weights="left_out")).save_pretrained(tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        path.write_text(path.read_text().replace(str(sources / part), str(tmp_path / part)))
        torch.manual_seed(4)
        if part == "sam":
            SAM.sam.build().sam.save_pretrained(tmp_path / "sam")
        else:
            DEBUG_CLIP.build().save_pretrained(tmp_path / "clip")
        with pytest.raises(InputError, match="was trained with the frozen weights"):
            Segmenter.from_pretrained(tmp_path / "model")

    def test_weights_that_cannot_be_had_again_are_not_left_out(self):
        with pytest.raises(InputError, match="cannot be had again"):
            build(SAM, frozen_weights="left_out")

    def test_an_image_tower_that_learned_is_stored(self, sources):
        clip = dataclasses.replace(DEBUG_CLIP, pretrained=str(sources / "clip"))
        network = build(CLIP, clip=clip, frozen_weights="left_out", image_encoder_trainable=True)
        assert set(network.left_out()) == {"text_encoder."}
        assert any(key.startswith("image_encoder.") for key in stored_state(network))


class TestStageOne:
    def test_encoders_and_tokenizer_of_stage_1_are_taken_over_and_stored(self, tmp_path):
        words = TokenizerConfig(kind="file", path=TOKENIZER_FILE, context_length=8)
        spec = InputSpec(image_size=(64, 64), tokenizer=words)
        clip = dataclasses.replace(DEBUG_CLIP, input_spec=spec, vocabulary_size=80)
        torch.manual_seed(1)
        stage1 = ResponseNetConfig(encoder=clip, input_spec=spec, dim=16).build()
        stage1.assets[TOKENIZER_FILE] = b"{}"
        stage1.save_pretrained(tmp_path / "stage1")
        network = build(
            CLIP, stage1_directory=str(tmp_path / "stage1"), starts_from_stage1=True
        ).eval()
        own = network.image_encoder.clip.clip.visual.trunk.stem[0].weight
        assert torch.equal(own, stage1.encoder.clip.visual.trunk.stem[0].weight)
        assert network.input_spec.tokenizer == words
        network.save_pretrained(tmp_path / "model")
        (tmp_path / "stage1").rename(tmp_path / "gone")
        loaded = Segmenter.from_pretrained(tmp_path / "model")
        batch = make_batch()
        assert loaded.assets == {TOKENIZER_FILE: b"{}"}
        assert torch.equal(loaded(batch).mask_logits, network(batch).mask_logits)


class TestResponseInput:
    def test_the_frozen_response_of_stage_1_moves_the_mask(self):
        network, batch = build(CLIP).eval(), make_batch()
        before = network(batch).mask_logits
        torch.nn.init.normal_(network.response.visual_projection.weight)
        assert not torch.equal(network(batch).mask_logits, before)
        assert not network.train().response.training
        assert not any(name.startswith("response") for name in gradient_names(network))

    def test_without_a_stage_1_network_it_cannot_be(self):
        with pytest.raises(InputError, match="stage1_directory"):
            build(CLIP, response=None)


class TestCache:
    @pytest.mark.parametrize("config", [SAM, CLIP])
    def test_a_training_with_cache_computes_the_same(self, config, tmp_path):
        results = []
        for cached in (False, True):
            network = build(config, cache_frozen_features=cached, dropout=0.0).train()
            network.keep_features_in(tmp_path)
            assert any(tmp_path.iterdir()) is False
            optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-2)
            for _ in range(3):
                batch = make_batch()
                loss = torch.stack(list(network.loss(network(batch), batch).values())).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            results.append(network.state_dict())
        assert len(list(tmp_path.glob("*/*.safetensors"))) == 2
        assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())

    def test_an_encoder_is_asked_once_per_image(self, tmp_path, monkeypatch):
        network = build(CLIP, cache_frozen_features=True).eval()
        network.keep_features_in(tmp_path)
        first = network(make_batch()).mask_logits
        monkeypatch.setattr(network, "_encode", lambda images: pytest.fail("asked again"))
        assert torch.equal(network(make_batch()).mask_logits, first)

    def test_without_the_setting_nothing_is_written(self, tmp_path):
        network = build(CLIP)
        network.keep_features_in(tmp_path)
        network(make_batch())
        assert not any(tmp_path.iterdir())

    def test_rounded_and_exact_precision_do_not_share_maps(self, tmp_path):
        network = build(CLIP, cache_frozen_features=True)
        network.keep_features_in(tmp_path)
        network(make_batch())
        with torch.autocast("cpu", torch.bfloat16):
            network(make_batch())
        assert len(list(tmp_path.iterdir())) == 2

    def test_features_of_an_encoder_that_learns_are_not_cached(self):
        with pytest.raises(InputError, match="cannot be cached"):
            build(CLIP, cache_frozen_features=True, image_encoder_trainable=True)

    @pytest.mark.slow
    def test_weights_are_digested_outside_of_a_compiled_forward(self):
        # In a process of its own: the shape checks that tests switch on cannot be compiled.
        command = [sys.executable, __file__]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True)


def test_padding_to_whole_cells_is_cut_off_again():
    network = build(SAM).eval()
    image = make_batch(size=(64, 64), num_images=1)
    image.images[:, :, 60:] = 0
    cut = image._replace(images=image.images[:, :, :60])
    torch.testing.assert_close(
        network(cut).mask_logits, network(image).mask_logits[:, :60], atol=1e-5, rtol=1e-4
    )


def test_the_debug_input_is_what_the_tests_feed():
    assert SAM.input_spec == DEBUG_INPUT


def compile_with_cache():
    was_compiling = []

    def digest(state):
        was_compiling.append(torch.compiler.is_compiling())
        return "0"

    haris_network.digest_of_state = digest
    network = build(CLIP, cache_frozen_features=True).eval()
    expected = network(make_batch()).mask_logits
    with tempfile.TemporaryDirectory() as folder:
        network.keep_features_in(Path(folder))
        compiled = torch.compile(network, backend="eager")
        for _ in range(2):
            torch.testing.assert_close(compiled(make_batch()).mask_logits, expected)
    assert was_compiling == [False]


if __name__ == "__main__":
    compile_with_cache()
