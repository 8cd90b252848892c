import dataclasses
from types import SimpleNamespace

import pyarrow
import pytest
import torch

from configs.segmenter import (
    dmmi_synthetic,
    grser_synthetic,
    haris_synthetic,
    mabp_synthetic,
    tris_synthetic,
)
from stages.train_segmenter import silence_unread_words
from tris.batch import Batch, TokenizerConfig
from tris.data.tokens import TOKENIZER_FILE, build_tokenizer, train_word_tokenizer
from tris.segmenters.place_words import PlaceWords

SIZE = (5, 6)


@pytest.fixture
def module() -> PlaceWords:
    torch.manual_seed(0)
    return PlaceWords(10, 8, num_planes=3)


def make_words(module, token_ids):
    torch.manual_seed(1)
    return module.add_to(torch.randn(1, 1, 8).expand(*token_ids.shape, 8), token_ids)


IDS = torch.tensor([[3, 4, 5], [3, 4, 6]])
MASK = torch.ones(2, 3, dtype=torch.bool)


def test_equal_features_of_different_words_become_different(module):
    words = make_words(module, IDS)
    assert torch.equal(words[0, :2], words[1, :2])
    assert (words[0, 2] - words[1, 2]).norm() > 0.1


def test_planes_are_linear_in_x_and_y(module):
    planes = module(IDS, MASK, size=SIZE)
    assert planes.shape == (2, 3, *SIZE)
    for axis in (2, 3):
        steps = planes.diff(dim=axis)
        assert steps.abs().max() > 0
        torch.testing.assert_close(steps.diff(dim=axis), torch.zeros_like(steps.diff(dim=axis)))


def test_maps_are_multiplied_with_every_plane(module):
    maps = torch.rand(2, 2, *SIZE)
    joined = module(IDS, MASK, size=SIZE, maps=maps)
    assert joined.shape[1] == module.num_channels(2) == 9
    planes = module(IDS, MASK, size=SIZE)
    torch.testing.assert_close(joined[:, :3], planes)
    torch.testing.assert_close(joined[:, 3:6], planes * maps[:, :1])
    torch.testing.assert_close(joined[:, 6:], planes * maps[:, 1:])


def test_an_untrained_module_gives_planes_of_the_size_of_other_hints():
    torch.manual_seed(0)
    module = PlaceWords(100, 64)
    ids = torch.randint(0, 100, (64, 6))
    planes = module(ids, ids >= 0, size=(12, 12))
    assert 0.5 < planes.std() < 3.0


def test_one_word_of_six_changes_untrained_planes_by_a_good_part():
    torch.manual_seed(0)
    module = PlaceWords(100, 64)
    one = torch.tensor([[1, 2, 3, 4, 5, 6]]).expand(64, 6)
    other = one.clone()
    other[:, 3] = torch.arange(10, 74)
    of_one, of_other = (module(ids, ids > 0, size=(12, 12)) for ids in (one, other))
    assert (of_one - of_other).std() > 0.3 * of_one.std()


def test_padding_has_no_say(module):
    mask = MASK.clone()
    mask[:, 2] = False
    one, other = module(IDS, mask, size=SIZE)
    assert torch.equal(one, other)
    assert not torch.equal(*module(IDS, MASK, size=SIZE))


def test_a_sentence_without_words_is_finite(module):
    planes = module(IDS, torch.zeros_like(MASK), size=SIZE)
    assert planes.isfinite().all()


def test_planes_of_a_sentence_do_not_depend_on_the_others(module):
    together = module(IDS, MASK, size=SIZE)
    torch.testing.assert_close(module(IDS[1:], MASK[1:], size=SIZE), together[1:])


def test_a_silent_word_adds_nothing_and_has_no_say_in_the_planes(module):
    module.keep_words({3, 4})
    words = torch.randn(2, 3, 8)
    mixed = module.add_to(words, IDS)
    assert torch.equal(mixed[:, 2], words[:, 2])
    assert (mixed[:, :2] - words[:, :2]).abs().min() > 0
    shorter = module(IDS[:, :2], MASK[:, :2], size=SIZE)
    torch.testing.assert_close(module(IDS, MASK, size=SIZE), shorter)


def test_kept_words_are_what_they_were(module):
    before = module(IDS, MASK, size=SIZE)
    module.keep_words({3, 4, 5, 6})
    assert torch.equal(module(IDS, MASK, size=SIZE), before)


def test_a_sentence_of_silent_words_is_like_one_without_words(module):
    module.keep_words({1})
    planes, none = (module(IDS, mask, size=SIZE) for mask in (MASK, torch.zeros_like(MASK)))
    assert torch.equal(planes, none)
    assert planes.isfinite().all()


def test_training_leaves_silent_words_silent_and_gives_a_word_that_it_reads_a_say(module):
    module.keep_words({3, 4})
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(2):
        planes = module(IDS[:1, :2], MASK[:1, :2], size=SIZE)
        added = module.add_to(torch.zeros(1, 3, 8), IDS[:1])
        optimizer.zero_grad()
        (planes.square().sum() + (added - 1).square().sum()).backward()
        optimizer.step()
    has_embedding = module.embedding.weight.detach().ne(0).any(dim=1)
    assert has_embedding.nonzero().flatten().tolist() == [3, 4, 5]


def test_silence_holds_in_bfloat16(module):
    module.keep_words({3, 4})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(*module(IDS, MASK, size=SIZE))
    assert torch.equal(*module.to(torch.bfloat16)(IDS, MASK, size=SIZE))


def test_silence_is_saved_and_loaded_with_the_weights(tmp_path):
    network = tris_synthetic.get_debug_config().build()
    network.place_words.keep_words({2, 3})
    network.save_pretrained(tmp_path / "model")
    loaded = type(network).from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.place_words.embedding.weight, network.place_words.embedding.weight)
    assert (loaded.place_words.embedding.weight != 0).any(dim=1).sum() == 2


ADDED = "and both the all two three four things ,"


@pytest.mark.parametrize(
    ("is_flipped", "is_composed", "words"),
    [
        (False, False, "red star left"),
        (True, False, "red star left right"),
        (False, True, f"red star left stars {ADDED}"),
    ],
)
def test_before_training_all_words_but_those_of_its_sentences_are_silenced(
    is_flipped, is_composed, words
):
    asset = train_word_tokenizer([f"red stars left right blue {ADDED}"], vocabulary_size=200)
    config = TokenizerConfig(kind="file", path=TOKENIZER_FILE, context_length=30)
    tokenizer = build_tokenizer(config, assets={TOKENIZER_FILE: asset})
    network = torch.nn.ModuleDict({"place_words": PlaceWords(tokenizer.vocabulary_size, 8)})
    sentences = pyarrow.chunked_array([[["red star", "star left"]]])
    index = SimpleNamespace(column=lambda name: sentences)
    stage = SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(text="sent")))
    silence_unread_words(
        stage, network, index, tokenizer, is_flipped=is_flipped, is_composed=is_composed
    )
    kept = (network["place_words"].embedding.weight != 0).any(dim=1).nonzero().flatten().tolist()
    assert kept == sorted({tokenizer.padding_id, *tokenizer.encode(words)})


NETWORKS = {
    "tris": (tris_synthetic, ("place_words.",)),
    "dmmi": (dmmi_synthetic, ("place_words.",)),
    "haris": (haris_synthetic, ("place_words.",)),
    "mabp": (mabp_synthetic, ("hints.place_words.",)),
    "grser": (grser_synthetic, ("place_words.",)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_without_place_words_a_network_has_no_weight_more(name):
    module, prefixes = NETWORKS[name]
    config = module.get_debug_config()
    assert config.has_place_words
    with_words = config.build().state_dict()
    names = set(dataclasses.replace(config, has_place_words=False).build().state_dict())
    added = set(with_words) - names
    assert added
    assert all(name.startswith(prefixes) for name in added)
    assert not names - set(with_words)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_whose_text_encoder_tells_nothing_still_hears_one_word(name):
    module, _ = NETWORKS[name]
    torch.manual_seed(0)
    config = dataclasses.replace(module.get_debug_config(), has_response_input=False)
    network = config.build().eval()
    own = [name for name, _ in network.named_parameters() if "place_words" in name]
    for key, value in network.named_parameters():
        if "token_embedding" in key and key not in own:
            torch.nn.init.zeros_(value)
    batch = make_crosses(num_images=3, seed=0)
    ids = torch.nn.functional.pad(batch.token_ids, (0, 20))
    ids = ids[:, : network.input_spec.tokenizer.context_length]
    batch = batch._replace(token_ids=ids, token_mask=ids > 0)
    other = batch._replace(token_ids=ids.where(ids != 10, 11))
    with torch.inference_mode():
        one, two = network(batch).mask_logits, network(other).mask_logits
    said = (ids == 10).any(dim=1)
    assert (one[said] - two[said]).abs().amax(dim=(1, 2)).min() > 1e-4
    if not network.input_spec.group_size:
        torch.testing.assert_close(one[~said], two[~said], atol=1e-5, rtol=1e-4)


CORNERS = ((24, 2), (24, 46), (2, 24), (46, 24))
"""Of the squares at the left, right, top and bottom of 64 pixels: y, x."""


def make_crosses(*, num_images: int, seed: int) -> Batch:
    """Return images of four equal squares, and of each "2 3 SIDE 4" with tokens 10 to 13."""
    torch.manual_seed(seed)
    images, targets = torch.randn(num_images, 3, 64, 64) / 10, torch.zeros(num_images, 4, 64, 64)
    for image in range(num_images):
        for side, corner in enumerate(CORNERS):
            y, x = (torch.tensor(corner) + torch.randint(0, 7, (2,))).tolist()
            images[image, :, y : y + 12, x : x + 12] += 2
            targets[image, side, y : y + 12, x : x + 12] = 1
    numbers, rows = torch.arange(4 * num_images), torch.arange(num_images)
    side = numbers % 4
    ids = torch.stack([side * 0 + 2, side * 0 + 3, side + 10, side * 0 + 4, *[side * 0] * 4], dim=1)
    return Batch(
        images=images, image_id=rows, original_size=torch.full((num_images, 2), 64),
        content_size=torch.full((num_images, 2), 64), token_ids=ids, token_mask=ids > 0,
        image_index=numbers // 4, referent_id=numbers, expression_id=numbers, text_id=side,
        is_no_target=side < 0, group_index=side * 0, targets=targets.flatten(0, 1).to(torch.uint8),
    )  # fmt: skip


def test_a_network_whose_text_encoder_tells_nothing_learns_sides():
    torch.manual_seed(0)
    network = tris_synthetic.get_debug_config().build().train()
    same = torch.randn(1, 8, network.encoder.word_dim)
    network.encoder.encode_words = lambda ids: (same.expand(len(ids), -1, -1), None)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(40):
        batch = make_crosses(num_images=4, seed=step)
        losses = network.loss(network(batch), batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    batch = make_crosses(num_images=8, seed=1000)
    opposite = torch.arange(32).unflatten(0, (8, 4))[:, [1, 0, 3, 2]].flatten()
    swapped = batch._replace(token_ids=batch.token_ids[opposite])
    with torch.inference_mode():
        peaks = network.eval()(swapped).mask_logits.flatten(1).argmax(dim=1)
    is_inside = batch.targets[opposite].flatten(1).gather(1, peaks[:, None]) == 1
    assert is_inside.float().mean() >= 0.9
