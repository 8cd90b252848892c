"""Every block against a second computation, written from the paper's equations."""

import numpy as np
import pytest
import torch
from torch import nn

from tris.segmenters.haris.attention import (
    CrossAttentionBlock,
    FeedbackAttention,
    HierarchicalFusion,
)
from tris.segmenters.haris.decoder import TokenMaskDecoder, sine_positions

DIM, WORD_DIM, SENTENCE_DIM = 8, 6, 5
NUM_PIXELS, NUM_TOKENS = 7, 4


def make_inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(2, NUM_TOKENS, dtype=torch.bool)
    mask[1, 2:] = False
    return (
        torch.randn(2, NUM_PIXELS, DIM, generator=generator),
        torch.randn(2, NUM_TOKENS, WORD_DIM, generator=generator),
        torch.randn(2, SENTENCE_DIM, generator=generator),
        mask,
    )


def make_block(**switches):
    torch.manual_seed(1)
    block = FeedbackAttention(DIM, WORD_DIM, SENTENCE_DIM, **switches)
    for norm in (block.visual_norm, block.word_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return block


def softmax(values, axis=-1):
    powers = np.exp(values - values.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def linear(layer, values):
    weight = layer.weight.detach().double().numpy()
    bias = 0 if layer.bias is None else layer.bias.detach().double().numpy()
    return values @ weight.T + bias


def normed(layer, values):
    centred = values - values.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    weight, bias = (each.detach().double().numpy() for each in (layer.weight, layer.bias))
    return scaled * weight + bias


def perceptron(layers, values):
    hidden = torch.from_numpy(linear(layers[0], values))
    return linear(layers[2], nn.functional.gelu(hidden).numpy())


def by_equations(block, visual, words, sentence, *, feedback=True, mean=False):
    """One expression without padding: equations 1, 2, 3 and the second round."""
    e_l = linear(block.word_input, words)

    def language_weighted(tokens):
        e_v = linear(block.visual_input, tokens)
        attention = softmax(e_v @ e_l.T / np.sqrt(DIM))
        return e_v, attention, linear(
            block.visual_output, normed(block.visual_norm, attention @ e_l + e_v)
        )  # fmt: skip

    e_v, attention, l2v = language_weighted(visual)
    weights = attention.T / attention.T.sum(1, keepdims=True) if mean else attention.T
    v2l = linear(block.word_output, normed(block.word_norm, weights @ e_v + e_l))
    if feedback:
        f_s = linear(block.sentence_input, sentence)
        modulated = softmax(l2v @ f_s / np.sqrt(DIM))[:, None] * f_s + l2v
        _, _, l2v = language_weighted(visual + perceptron(block.feedback, modulated))
    return l2v, v2l


@torch.no_grad()
@pytest.mark.parametrize(
    ("feedback", "pixel_weights"), [(True, "sum"), (False, "sum"), (True, "mean")]
)
def test_human_like_attention_is_equations_1_to_3(feedback, pixel_weights):
    block = make_block(has_feedback=feedback, pixel_weights=pixel_weights)
    visual, words, sentence, mask = make_inputs()
    tokens, aware_words = block(visual, words, sentence, mask)
    for row in range(2):
        length = int(mask[row].sum())
        l2v, v2l = by_equations(
            block, visual[row].double().numpy(), words[row, :length].double().numpy(),
            sentence[row].double().numpy(), feedback=feedback, mean=pixel_weights == "mean",
        )  # fmt: skip
        np.testing.assert_allclose(tokens[row], l2v, atol=1e-5)
        np.testing.assert_allclose(aware_words[row, :length], v2l, atol=1e-5)


@torch.no_grad()
def test_without_language_weighting_and_feedback_pixels_know_no_words():
    block = make_block(has_language_weighting=False, has_feedback=False)
    visual, words, sentence, mask = make_inputs()
    tokens, aware_words = block(visual, words, sentence, mask)
    other_tokens, other_words = block(visual, words + 1, sentence, mask)
    assert torch.equal(tokens, other_tokens)
    assert not torch.allclose(aware_words, other_words)


@torch.no_grad()
def test_without_vision_weighting_words_know_no_pixels():
    block = make_block(has_vision_weighting=False)
    visual, words, sentence, mask = make_inputs()
    tokens, aware_words = block(visual, words, sentence, mask)
    other_tokens, other_words = block(visual + 1, words, sentence, mask)
    assert torch.equal(aware_words, other_words)
    assert not torch.allclose(tokens, other_tokens)


@torch.no_grad()
def test_the_sentence_reaches_the_pixels_by_feedback_alone():
    visual, words, sentence, mask = make_inputs()
    for has_feedback in (True, False):
        block = make_block(has_feedback=has_feedback)
        tokens, _ = block(visual, words, sentence, mask)
        others, _ = block(visual, words, sentence + 1, mask)
        assert torch.equal(tokens, others) is not has_feedback


@torch.no_grad()
@pytest.mark.parametrize("kind", ["human_like", "cross_attention"])
def test_padding_changes_no_pixel(kind):
    torch.manual_seed(0)
    block = (
        make_block() if kind == "human_like" else CrossAttentionBlock(DIM, WORD_DIM, num_heads=2)
    )
    visual, words, sentence, mask = make_inputs()
    other = torch.where(mask[:, :, None], words, words + 5)
    tokens, aware = block(visual, words, sentence, mask)
    other_tokens, other_aware = block(visual, other, sentence, mask)
    assert torch.equal(tokens, other_tokens)
    assert torch.equal(aware[mask], other_aware[mask])


@torch.no_grad()
def test_fusion_is_a_convolution_of_the_concatenation():
    torch.manual_seed(0)
    fusion = HierarchicalFusion(DIM).eval()
    nn.init.normal_(fusion.norm.bias)
    aware, level = torch.randn(3, DIM, 5, 6), torch.randn(2, DIM, 5, 6)
    index = torch.tensor([1, 0, 1])
    weight = torch.cat([fusion.aware_convolution.weight, fusion.level_convolution.weight], dim=1)
    joined = torch.cat([aware, level[index]], dim=1)
    expected = fusion.norm(nn.functional.conv2d(joined, weight, padding=1)).relu()
    torch.testing.assert_close(fusion(aware, level, image_index=index), expected)


def make_decoder(query):
    torch.manual_seed(2)
    decoder = TokenMaskDecoder(DIM, query=query, num_layers=2, num_heads=2, mlp_dim=16, dropout=0.0)
    return decoder.eval()


def upsampled(decoder, features):
    for block in decoder.blocks:
        features = nn.functional.interpolate(block(features), scale_factor=2.0, mode="bilinear")
    return features


@torch.no_grad()
@pytest.mark.parametrize("query", ["words", "pixels", "product"])
def test_the_mask_is_upsampled_features_times_token(query):
    decoder = make_decoder(query)
    visual, mask = torch.randn(2, DIM, 3, 4), make_inputs()[3]
    words = torch.randn(2, NUM_TOKENS, DIM)
    placed = (visual + sine_positions(visual)).flatten(2).transpose(1, 2)
    logits = decoder(visual, words, mask)
    for row in range(2):
        own = words[row : row + 1, : int(mask[row].sum())]
        if query == "product":
            token, features = own.mean(dim=1), visual[row : row + 1]
        else:
            start = decoder.token[None, None]
            pixels = placed[row : row + 1]
            asking, asked = (own, pixels) if query == "words" else (pixels, own)
            decoded = decoder.transformer(torch.cat([start, asking], dim=1), asked)
            token, features = decoded[:, 0], visual[row : row + 1]
            if query == "pixels":
                features = decoded[:, 1:].transpose(1, 2).reshape(1, DIM, 3, 4)
        maps = upsampled(decoder, features)[0]
        expected = sum(maps[c] * token[0, c] for c in range(DIM)) / DIM**0.5
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("query", ["words", "pixels", "product"])
def test_padding_changes_no_mask(query):
    decoder, (_, _, _, mask) = make_decoder(query), make_inputs()
    visual, words = torch.randn(2, DIM, 3, 4), torch.randn(2, NUM_TOKENS, DIM)
    other = torch.where(mask[:, :, None], words, words + 5)
    torch.testing.assert_close(decoder(visual, words, mask), decoder(visual, other, mask))


def test_no_two_cells_have_the_same_position():
    positions = sine_positions(torch.zeros(1, 8, 5, 7)).flatten(1).T
    assert len({tuple(each) for each in positions.round(decimals=4).tolist()}) == 35
