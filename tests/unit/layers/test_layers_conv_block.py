import torch

from tris.layers.conv_block import ConvBlock


def test_keeps_height_and_width():
    assert ConvBlock(3, 5)(torch.zeros(2, 3, 7, 9)).shape == (2, 5, 7, 9)


def test_has_no_convolution_bias_and_one_slope():
    shapes = {name: tuple(p.shape) for name, p in ConvBlock(3, 5).named_parameters()}
    assert shapes == {
        "convolution.weight": (5, 3, 3, 3),
        "norm.weight": (5,),
        "norm.bias": (5,),
        "activation.weight": (1,),
    }


def test_finishing_a_convolution_equals_the_block():
    block = ConvBlock(3, 5).eval()
    features = torch.randn(2, 3, 4, 4)
    assert torch.equal(block(features), block.finish(block.convolution(features)))
