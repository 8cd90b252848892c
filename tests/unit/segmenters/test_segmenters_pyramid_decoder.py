import pytest
import torch

from tris.segmenters.pyramid_decoder import PyramidDecoder

CHANNELS = (4, 6, 8, 10)
INSIDE = (8, 12, 16, 20)


def make_pyramid(sizes, *, images=2, expressions=3):
    generator = torch.Generator().manual_seed(0)
    finest = torch.randn(images, CHANNELS[0], *sizes[0], generator=generator)
    fused = [
        torch.randn(expressions, channels, *size, generator=generator)
        for channels, size in zip(CHANNELS[1:], sizes[1:], strict=True)
    ]
    return finest, fused


IMAGE_INDEX = torch.tensor([0, 1, 1])
RESNET_SIZES = [(16, 16), (8, 8), (4, 4), (2, 2)]
SMALL_SIZES = [(15, 17), (7, 9), (7, 9), (7, 9)]


@pytest.mark.parametrize("sizes", [RESNET_SIZES, SMALL_SIZES])
def test_training_gives_one_head_per_level_each_at_the_size_above_it(sizes):
    decoder = PyramidDecoder(CHANNELS, INSIDE)
    logits = decoder(*make_pyramid(sizes), image_index=IMAGE_INDEX)
    assert [tuple(level.shape) for level in logits] == [
        (3, 1, *size) for size in (sizes[0], sizes[0], sizes[1], sizes[2])
    ]


def test_evaluation_gives_the_finest_head_alone():
    decoder = PyramidDecoder(CHANNELS, INSIDE)
    pyramid = make_pyramid(RESNET_SIZES)
    decoder.eval()
    (finest,) = decoder(*pyramid, image_index=IMAGE_INDEX)
    assert finest.shape == (3, 1, 16, 16)


@pytest.mark.parametrize("is_training", [True, False])
def test_sharing_the_finest_level_equals_repeating_it(is_training):
    torch.manual_seed(0)
    decoder = PyramidDecoder(CHANNELS, INSIDE).train(is_training)
    finest, fused = make_pyramid(RESNET_SIZES)
    shared = decoder(finest, fused, image_index=IMAGE_INDEX)[0]
    repeated = decoder(finest[IMAGE_INDEX], fused, image_index=torch.arange(3))[0]
    torch.testing.assert_close(shared, repeated)


def test_hints_reach_the_prediction():
    torch.manual_seed(0)
    decoder = PyramidDecoder(CHANNELS, INSIDE, hint_channels=2).eval()
    pyramid = make_pyramid(RESNET_SIZES)
    first = decoder(*pyramid, image_index=IMAGE_INDEX, hints=torch.zeros(3, 2, 16, 16))[0]
    second = decoder(*pyramid, image_index=IMAGE_INDEX, hints=torch.ones(3, 2, 16, 16))[0]
    assert not torch.allclose(first, second)
