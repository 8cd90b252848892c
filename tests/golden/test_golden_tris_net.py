"""The segmentation network against the released one: layout, and every layer's arithmetic.

There are no stored numbers of the full network, so its forward is written here a second time, from
the published description with released names, and compared under the fill rule.
"""

import importlib.util
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tris.batch import Batch
from tris.cli.convert import CONVERTERS, main
from tris.model_directory import PretrainedModel
from tris.segmenters.tris_net import TrisNet
from tris.segmenters.tris_net_released import released_key

pytestmark = [pytest.mark.golden, pytest.mark.slow]

MANIFESTS = {
    "tris_stage1_manifest.json": "tris-stage1",
    "tris_stage1_rn101_manifest.json": "tris-stage1",
    "tris_stage2_manifest.json": "tris-stage2",
}


@pytest.fixture(scope="module")
def fill_rule(reference):
    specification = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def make_state(manifest, fill_rule) -> dict[str, torch.Tensor]:
    """Return the weights of a manifest under the fill rule."""
    state = {}
    for key, shape, dtype in manifest["state_dict"]:
        if dtype.startswith("int"):
            state[key] = torch.zeros(shape, dtype=torch.long)
        elif not shape:
            state[key] = torch.tensor(math.log(1 / 0.07))
        else:
            state[key] = torch.from_numpy(fill_rule.value(key, shape))
    return state


@pytest.fixture(scope="module")
def stage_two_state(reference, fill_rule):
    path = reference / "manifests" / "tris_stage2_manifest.json"
    return make_state(json.loads(path.read_text()), fill_rule)


@pytest.fixture(scope="module")
def network(stage_two_state, tmp_path_factory) -> TrisNet:
    """A released file, converted and read back."""
    folder = tmp_path_factory.mktemp("converted")
    checkpoint = {"model": stage_two_state, "optimizer": {}, "lr_scheduler": {}, "epoch": 14}
    torch.save(checkpoint, folder / "released.pth")
    out = folder / "model"
    main([str(folder / "released.pth"), "--from", "tris-stage2", "--out", str(out)])
    (folder / "released.pth").unlink()
    return TrisNet.from_pretrained(out)


@pytest.fixture(scope="module")
def batch(fill_rule) -> Batch:
    token_ids = torch.zeros(2, 20, dtype=torch.long)
    token_ids[0, :5] = torch.tensor([49406, 518, 786, 530, 49407])
    token_ids[1] = torch.arange(20) + 400
    index = torch.arange(2)
    size = (96, 128)
    return Batch(
        images=torch.from_numpy(fill_rule.image(7, (2, 3, *size))),
        image_id=index,
        original_size=torch.tensor([size] * 2),
        content_size=torch.tensor([size] * 2),
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index,
        is_no_target=torch.zeros(2, dtype=torch.bool),
        group_index=torch.zeros(2, dtype=torch.long),
    )


def published_logits(state, pyramid, words):
    """Fuse and decode by the released weights alone; four logit maps, finest first."""

    def block(name, features, *, is_training=False):
        convolved = F.conv2d(features, state[f"{name}.conv.weight"], padding=1)
        normalised = F.batch_norm(
            convolved,
            state[f"{name}.bn.running_mean"].clone(),
            state[f"{name}.bn.running_var"].clone(),
            state[f"{name}.bn.weight"],
            state[f"{name}.bn.bias"],
            training=is_training,
        )
        return F.prelu(normalised, state[f"{name}.relu.weight"])

    def fuse(name, features):
        def project(part, x):
            weight, bias = state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"]
            return (F.conv1d if x.ndim == 3 else F.conv2d)(x, weight, bias)

        def instance_norm(part, x):
            weight, bias = state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"]
            return F.instance_norm(x, weight=weight, bias=bias)

        keys, values = project("Wk", words), project("Wv", words)
        queries = instance_norm("ins_q", project("Wq", features))
        affinity = torch.einsum("nchw,nct->nhwt", queries, keys) / features.shape[1] ** 0.5
        gathered = torch.einsum("nhwt,nct->nchw", affinity.softmax(dim=-1), values)
        gate = instance_norm("ins_w", project("Ww", gathered))
        return features + project("Wo", project("Wm", features).relu() * gate).relu()

    def up(features, like):
        return F.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)

    fused = [pyramid[0]] + [fuse(f"attention{i}", pyramid[i - 1]) for i in (2, 3, 4)]
    skips = [block(f"reduced_c{i + 1}", features) for i, features in enumerate(fused)]
    level4 = up(block("output4", skips[3]), skips[2])
    level3 = up(block("output3", level4 + skips[2]), skips[1])
    level2 = up(block("output2", level3 + skips[1]), skips[0])
    level1 = block("output1", level2 + skips[0])
    return [
        F.conv2d(block(f"final_seg{i}.0", level), state[f"final_seg{i}.1.weight"])
        for i, level in enumerate((level1, level2, level3, level4), start=1)
    ]


@torch.no_grad()
def test_logits_equal_the_published_description(network, stage_two_state, batch):
    pyramid = network.encoder.encode_pyramid(batch.images)
    words = network.encoder.encode_words(batch.token_ids)[0].transpose(1, 2)
    finest = published_logits(stage_two_state, pyramid, words)[0]
    expected = F.interpolate(finest, size=(96, 128), mode="bilinear", align_corners=False)[:, 0]
    logits = network(batch).mask_logits
    assert logits.isfinite().all()
    assert logits.std() > 0.01
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_deep_heads_equal_the_published_description(network, stage_two_state, batch):
    pyramid = network.encoder.encode_pyramid(batch.images)
    words = network.encoder.encode_words(batch.token_ids)[0].transpose(1, 2)
    levels = published_logits(stage_two_state, pyramid, words)
    network.decoder.training = True  # its heads alone: batch norms keep their statistics
    output = network(batch)
    network.eval()
    for deep, level in zip(output.extras["deep_logits"], levels[1:], strict=True):
        expected = F.interpolate(level, size=(96, 128), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(deep, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pyramid_equals_the_released_one(network, fill_rule, golden):
    stored = np.load(golden / "tris_stage1_golden.npz")
    images = fill_rule.image(int(stored["img_seed"]), (2, 3, 320, 320))
    pyramid = network.encoder.encode_pyramid(torch.from_numpy(images))
    for level, features in enumerate(pyramid, start=1):
        corner = features[:, :4, ::4, ::4].numpy()
        np.testing.assert_allclose(corner, stored[f"c{level}_c4_s4"], atol=1e-4)


def test_config_names_the_released_input(network):
    spec = network.input_spec
    assert (spec.image_size, spec.tokenizer.context_length) == ((320, 320), 20)
    assert not spec.tokenizer.keep_end_token
    assert network.config.encoder.pretrained == ""


def test_encoder_learns_at_a_tenth_of_the_rate_positions_at_the_full_rate(network):
    scales = {
        id(p): group.learning_rate_scale
        for group in network.parameter_groups()
        for p in group.parameters
    }
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            released = released_key(name)
            is_slow = released.startswith("backbone") and "positional_embedding" not in released
            assert scales[id(parameter)] == (0.1 if is_slow else 1.0), name


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_released_key_is_consumed(name, reference):
    manifest = json.loads((reference / "manifests" / name).read_text())
    state = {
        key: torch.zeros(shape, dtype=torch.long if dtype.startswith("int") else torch.float32)
        for key, shape, dtype in manifest["state_dict"]
    }
    state[next(key for key in state if key.endswith("ln_final.weight"))] += 0.5
    converted: PretrainedModel = CONVERTERS[MANIFESTS[name]](state)
    own = converted.state_dict()
    assert len(own) == manifest["n_keys"]
    assert own["encoder.clip.ln_final.weight"].unique().tolist() == [0.5]
    parameters = sum(p.numel() for p in converted.parameters())
    assert parameters == manifest["n_params"]
