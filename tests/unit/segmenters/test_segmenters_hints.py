import pytest
import torch

from tris.segmenters.hints import coordinate_planes, response_hints


def test_coordinates_of_cell_centres_are_symmetric():
    planes = coordinate_planes((2, 4), like=torch.zeros(1))
    assert planes[0].tolist() == [[-0.75, -0.25, 0.25, 0.75]] * 2
    assert planes[1].tolist() == [[-0.5] * 4, [0.5] * 4]


def test_first_response_hint_is_the_probability():
    hints = response_hints(torch.tensor([[[0.0, 100.0], [-100.0, 0.0]]]))
    torch.testing.assert_close(hints[0, 0], torch.tensor([[0.5, 1.0], [0.0, 0.5]]))


def test_second_response_hint_keeps_the_place_however_low_the_level():
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        response_hints(logits)[:, 1], response_hints(logits - 30)[:, 1], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("level", [-5.0, 0.0, 5.0])
def test_a_constant_response_points_nowhere(level):
    hints = response_hints(torch.full((1, 3, 3), level))
    assert torch.equal(hints[:, 1], torch.zeros(1, 3, 3))
