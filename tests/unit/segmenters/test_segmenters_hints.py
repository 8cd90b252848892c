import pytest
import torch

from tris.batch import Batch
from tris.segmenters.haris.network import LevelProjection
from tris.segmenters.hint_inputs import HintInputs
from tris.segmenters.hints import coordinate_planes, response_hints
from tris.segmenters.place_words import PlaceWords


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


def batch_of(canvas, *contents):
    sizes, rows = torch.tensor(contents), torch.arange(len(contents))
    tokens = torch.tensor([[3, 4]] * len(contents))
    return Batch(
        images=torch.zeros(len(contents), 3, *canvas), image_id=rows, original_size=sizes,
        content_size=sizes, token_ids=tokens, token_mask=tokens > 0, image_index=rows,
        referent_id=rows, expression_id=rows, text_id=rows, is_no_target=rows < 0, group_index=rows,
    )  # fmt: skip


def test_coordinates_and_planes_span_the_photograph_and_not_its_padding():
    torch.manual_seed(0)
    inputs = HintInputs(None, True, PlaceWords(10, 8, num_planes=3))
    padded = inputs.make(batch_of((8, 8), (8, 4), (4, 8)), size=(8, 8))
    portrait = inputs.make(batch_of((8, 4), (8, 4)), size=(8, 4))
    landscape = inputs.make(batch_of((4, 8), (4, 8)), size=(4, 8))
    torch.testing.assert_close(padded[:1, :, :, :4], portrait)
    torch.testing.assert_close(padded[1:, :, :4], landscape)


def test_without_padding_hints_are_those_of_the_canvas_to_the_last_bit():
    torch.manual_seed(0)
    words = PlaceWords(10, 8, num_planes=3)
    batch = batch_of((6, 8), (6, 8))
    hints = HintInputs(None, True, words).make(batch, size=(3, 4))
    planes = words(batch.token_ids, batch.token_mask, size=(3, 4))
    assert torch.equal(hints[0, :2], coordinate_planes((3, 4), like=planes))
    assert torch.equal(hints[:, 2:], planes)


def test_a_level_of_haris_has_the_coordinates_of_the_photograph():
    torch.manual_seed(0)
    project, features = LevelProjection(4, 6, has_coordinates=True), torch.randn(1, 4, 8, 8)
    padded = project(features, torch.tensor([[1.0, 0.5]]))
    alone = project(features[..., :4], torch.ones(1, 2))
    torch.testing.assert_close(padded[..., :4], alone)
    assert not torch.allclose(project(features, torch.ones(1, 2))[..., :4], alone)
