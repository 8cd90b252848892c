"""MABP against the released network: the decoder's numbers, and every key of its checkpoints."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from tris.cli.convert import CONVERTERS
from tris.segmenters.mabp import decoder
from tris.segmenters.mabp.decoder import DecoderConfig, RegionDecoder
from tris.segmenters.mabp.released import released_source, take

pytestmark = pytest.mark.golden

SMALL = DecoderConfig(dim=32, num_attention_heads=4, feedforward_dim=64)
PREFIX = "sem_seg_head.predictor."


@pytest.fixture(scope="module")
def fill_rule(reference):
    specification = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def small_manifest(reference):
    return json.loads((reference / "manifests" / "mabp_decoder_small_manifest.json").read_text())


@pytest.fixture(scope="module")
def small_decoder(small_manifest, fill_rule) -> RegionDecoder:
    """The decoder at width 32, filled under the released names."""
    network = RegionDecoder(SMALL, word_dim=768, num_tokens=20).eval()
    released = {
        PREFIX + key: torch.from_numpy(fill_rule.value("dec." + key, shape))
        for key, shape, _ in small_manifest["state_dict"]
    }
    own = network.state_dict()
    sources = {key: released_source(f"decoder.{key}") for key in own}
    assert {source.key for source in sources.values()} == released.keys()
    network.load_state_dict({key: take(released, sources[key], like=own[key]) for key in own})
    return network


@pytest.fixture(scope="module")
def stored(golden):
    return np.load(golden / "mabp_decoder_small_golden.npz")


@pytest.fixture(scope="module")
def seen(small_decoder, stored, fill_rule):
    """What the decoder says of the golden's input, and the masks of its attention."""
    maps = [
        torch.from_numpy(fill_rule.image(5100 + level, (2, 32, side, side)))
        for level, side in enumerate((15, 30, 60))
    ]
    mask_features = torch.from_numpy(fill_rule.image(5103, (2, 32, 120, 120)))
    words = torch.from_numpy(fill_rule.image(5104, (2, 768, 20))).transpose(1, 2)
    token_mask = torch.from_numpy(stored["lang_mask"])[..., 0] > 0
    visibilities = []

    def record(*arguments, **keywords):
        visibilities.append(original(*arguments, **keywords))
        return visibilities[-1]

    original = decoder.visible_cells
    decoder.visible_cells = record
    try:
        with torch.no_grad():
            output = small_decoder(maps, mask_features, words, token_mask)
    finally:
        decoder.visible_cells = original
    return output, visibilities


@pytest.mark.parametrize("head", range(4))
def test_masks_equal_the_released_ones(seen, stored, head):
    logits = seen[0].mask_logits[head].numpy()
    np.testing.assert_allclose(logits, stored[f"pred_mask_{head}"], atol=1e-4)


@pytest.mark.parametrize("head", range(4))
def test_no_target_logits_equal_the_released_ones(seen, stored, head):
    logits = seen[0].no_target_logits[head].numpy()
    np.testing.assert_allclose(logits, stored[f"nt_{head}"], atol=1e-4)


def test_attention_is_masked_as_much_as_in_the_released_network(seen, stored):
    fractions = [1 - visible.float().mean().item() for visible in seen[1]]
    np.testing.assert_allclose(fractions, stored["attn_masked_fraction_per_call"], atol=1e-6)


def test_small_manifest_has_the_size_of_our_decoder(small_decoder, small_manifest):
    parameters = sum(p.numel() for p in small_decoder.parameters())
    assert parameters == small_manifest["n_params"]
    assert len(small_decoder.state_dict()) == small_manifest["n_keys"]


@pytest.mark.slow
def test_every_key_of_the_full_network_is_consumed(reference):
    manifest = json.loads((reference / "manifests" / "mabp_swinb_manifest.json").read_text())
    state = {
        key: torch.zeros(shape, dtype=torch.long if dtype.startswith("int") else torch.float32)
        for key, shape, dtype in manifest["state_dict"]
    }
    state["sem_seg_head.predictor.langq_norm.weight"] += 0.5
    network = CONVERTERS["mabp"](state)
    assert network.state_dict()["decoder.generator.query_norm.weight"].unique().tolist() == [0.5]
    assert sum(p.numel() for p in network.parameters()) == manifest["n_params"]
