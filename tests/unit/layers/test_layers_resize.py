import pytest
import torch
from torch.nn import functional

from tris.layers.resize import resize

SIZES = [(12, 20), (3, 5), (6, 7), (1, 1), (13, 2)]


def interpolate(features, size):
    return functional.interpolate(features, size=size, mode="bilinear", align_corners=False)


def test_resizing_to_half_averages_pairs():
    row = torch.tensor([[[[1.0, 3.0, 5.0, 9.0]] * 2]])
    assert resize(row, (1, 2)).tolist() == [[[[2.0, 7.0]]]]
    assert resize(row.requires_grad_(), (1, 2)).tolist() == [[[[2.0, 7.0]]]]


@pytest.mark.parametrize("size", SIZES)
def test_single_maps_and_their_gradients_are_those_of_interpolation(size):
    own = torch.randn(4, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    other = own.detach().clone().requires_grad_()
    weight = torch.randn(4, 1, *size, dtype=torch.float64)
    found, expected = resize(own, size), interpolate(other, size)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own.grad, other.grad)


def test_without_a_gradient_single_maps_are_interpolated_to_the_bit():
    maps = torch.randn(4, 1, 6, 7)
    assert torch.equal(resize(maps, (12, 14)), interpolate(maps, (12, 14)))
    with torch.no_grad():
        found = resize(maps.requires_grad_(), (12, 14))
    assert torch.equal(found, interpolate(maps, (12, 14)))


def test_single_maps_keep_full_precision_inside_autocast():
    maps = torch.randn(4, 1, 6, 7, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = resize(maps, (12, 14))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, interpolate(maps, (12, 14)), rtol=0, atol=1e-6)


def test_single_maps_of_half_precision_stay_that():
    maps = torch.randn(4, 1, 6, 7).bfloat16().requires_grad_()
    found = resize(maps, (12, 14))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, interpolate(maps, (12, 14)))


def test_no_map_gives_no_map():
    nothing = torch.zeros(0, 1, 6, 7, requires_grad=True)
    assert resize(nothing, (12, 14)).shape == (0, 1, 12, 14)
