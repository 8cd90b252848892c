import dataclasses

import pytest
import torch

from configs.segmenter.tris_synthetic import get_debug_config
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
    planes = module(make_words(module, IDS), MASK, size=SIZE)
    assert planes.shape == (2, 3, *SIZE)
    for axis in (2, 3):
        steps = planes.diff(dim=axis)
        assert steps.abs().max() > 0
        torch.testing.assert_close(steps.diff(dim=axis), torch.zeros_like(steps.diff(dim=axis)))


def test_maps_are_multiplied_with_every_plane(module):
    words = make_words(module, IDS)
    maps = torch.rand(2, 2, *SIZE)
    joined = module(words, MASK, size=SIZE, maps=maps)
    assert joined.shape[1] == module.num_channels(2) == 9
    planes = module(words, MASK, size=SIZE)
    torch.testing.assert_close(joined[:, :3], planes)
    torch.testing.assert_close(joined[:, 3:6], planes * maps[:, :1])
    torch.testing.assert_close(joined[:, 6:], planes * maps[:, 1:])


def test_an_untrained_module_gives_planes_of_the_size_of_other_hints():
    torch.manual_seed(0)
    module = PlaceWords(100, 64)
    ids = torch.randint(0, 100, (64, 6))
    planes = module(module.add_to(torch.randn(64, 6, 64), ids), ids >= 0, size=(12, 12))
    assert 0.5 < planes.std() < 2.0


def test_one_word_of_six_changes_untrained_planes_by_a_good_part():
    torch.manual_seed(0)
    module = PlaceWords(100, 64)
    one = torch.tensor([[1, 2, 3, 4, 5, 6]]).expand(64, 6)
    other = one.clone()
    other[:, 3] = torch.arange(10, 74)
    features = torch.randn(1, 6, 64)
    of_one, of_other = (
        module(module.add_to(features.expand(64, 6, 64), ids), ids > 0, size=(12, 12))
        for ids in (one, other)
    )
    assert (of_one - of_other).std() > 0.3 * of_one.std()


def test_padding_has_no_say(module):
    mask = MASK.clone()
    mask[:, 2] = False
    words = make_words(module, IDS)
    one, other = module(words, mask, size=SIZE)
    assert torch.equal(one, other)
    assert not torch.equal(*module(words, MASK, size=SIZE))


def test_a_sentence_without_words_is_finite(module):
    planes = module(make_words(module, IDS), torch.zeros_like(MASK), size=SIZE)
    assert planes.isfinite().all()


def test_planes_of_a_sentence_do_not_depend_on_the_others(module):
    words = make_words(module, IDS)
    together = module(words, MASK, size=SIZE)
    torch.testing.assert_close(module(words[1:], MASK[1:], size=SIZE), together[1:])


def test_a_published_network_has_no_weight_more():
    config = get_debug_config()
    assert not config.has_place_words
    names = set(config.build().state_dict())
    with_words = set(dataclasses.replace(config, has_place_words=True).build().state_dict())
    assert names < with_words
    assert all(name.startswith("place_words.") for name in with_words - names)
