import importlib.util
import math

import numpy as np
import pytest
import torch
from torch import nn

from tris.layers.pixel_word_attention import PixelWordAttention

RELEASED_NAMES = {
    "key": "Wk",
    "value": "Wv",
    "query": "Wq",
    "visual": "Wm",
    "gate": "Ww",
    "output": "Wo",
    "query_norm": "ins_q",
    "gate_norm": "ins_w",
}


@pytest.fixture
def fill_value(reference):
    specification = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.value


def fill_as_released(attention: PixelWordAttention, fill_value, released_dims: dict[str, int]):
    """Give every weight the value that the fill rule gives its released twin."""
    with torch.no_grad():
        for name, tensor in attention.state_dict().items():
            part, kind = name.split(".")
            trailing = (1,) * (released_dims.get(part, 0) - tensor.ndim if kind == "weight" else 0)
            released = f"pa.{RELEASED_NAMES[part]}.{kind}"
            value = fill_value(released, (*tensor.shape, *trailing))
            tensor.copy_(torch.from_numpy(value).reshape(tensor.shape))


def make_inputs(expressions: int = 5):
    generator = torch.Generator().manual_seed(3)
    return {
        "visual_features": torch.randn(2, 8, 5, 6, generator=generator),
        "word_features": torch.randn(expressions, 7, 6, generator=generator),
        "token_mask": torch.arange(7).expand(expressions, 7) < 4,
    }


def attend_naively(attention, visual_features, word_features):
    """The published formula, every projection per expression and per pixel."""
    pixels = attention.query_norm(attention.query(visual_features)).flatten(2).transpose(1, 2)
    scores = pixels @ attention.key(word_features).transpose(1, 2)
    weights = (scores / math.sqrt(visual_features.shape[1])).softmax(dim=2)
    gathered = attention.gate(weights @ attention.value(word_features)).transpose(1, 2)
    gate = attention.gate_norm(gathered.reshape(visual_features.shape))
    return attention.output(attention.visual(visual_features).relu() * gate).relu()


@pytest.mark.golden
def test_equals_the_released_block(golden, fill_value):
    stored = np.load(golden / "tris_modules_golden.npz")
    attention = PixelWordAttention(64, 48)
    pointwise = {"query": 4, "visual": 4, "gate": 4, "output": 4, "key": 3, "value": 3}
    fill_as_released(attention, fill_value, pointwise)
    words = torch.from_numpy(stored["pa_lan_in_BCT"]).transpose(1, 2)
    attended = attention(
        torch.from_numpy(stored["pa_vis_in"]),
        words,
        torch.ones(words.shape[:2], dtype=torch.bool),
        image_index=torch.arange(2),
    )
    np.testing.assert_allclose(attended.detach().numpy(), stored["pa_out"], atol=1e-5)


def test_one_image_for_several_expressions_equals_repeating_the_image():
    torch.manual_seed(0)
    attention = PixelWordAttention(8, 6)
    inputs = make_inputs()
    image_index = torch.tensor([1, 0, 0, 1, 1])
    shared = attention(**inputs, image_index=image_index)
    naive = attend_naively(
        attention, inputs["visual_features"][image_index], inputs["word_features"]
    )
    torch.testing.assert_close(shared, naive, atol=1e-5, rtol=1e-5)


def test_image_projections_run_once_per_image(monkeypatch):
    attention = PixelWordAttention(8, 6)
    seen = []
    monkeypatch.setattr(
        attention.query,
        "forward",
        lambda x: seen.append(len(x)) or nn.Conv2d.forward(attention.query, x),
    )
    attention(**make_inputs(), image_index=torch.tensor([0, 0, 0, 0, 1]))
    assert seen == [2]


def test_padding_speaks_where_it_is_not_masked():
    attention = PixelWordAttention(8, 6, mask_padding=False)
    assert not torch.equal(*with_and_without_noise_in_padding(attention))


def test_padding_is_silent_where_it_is_masked():
    attention = PixelWordAttention(8, 6, mask_padding=True)
    assert torch.equal(*with_and_without_noise_in_padding(attention))


def with_and_without_noise_in_padding(attention):
    inputs = make_inputs()
    image_index = torch.tensor([0, 0, 1, 1, 1])
    clean = attention(**inputs, image_index=image_index)
    noisy_words = inputs["word_features"].clone()
    noisy_words[:, 4:] += 1.0
    noisy = attention(**{**inputs, "word_features": noisy_words}, image_index=image_index)
    return clean, noisy
