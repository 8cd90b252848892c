import pytest
import torch

from tris.layers.selection import select_rows

INDEX = torch.tensor([2, 0, 0, 2, 2])
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SIZES = [(3, 4, 5, 6), (3, 1, 5, 6), (3, 4, 1, 1)]


@pytest.mark.parametrize("memory_format", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES)
def test_rows_and_their_gradients_are_those_of_indexing(sizes, memory_format):
    indexed = torch.randn(sizes).to(memory_format=memory_format).requires_grad_()
    selected = indexed.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    weight = torch.randn(5, *sizes[1:])
    (indexed[INDEX] * weight).sum().backward()
    rows = select_rows(selected, INDEX)
    (rows * weight).sum().backward()
    assert torch.equal(rows, indexed[INDEX])
    torch.testing.assert_close(selected.grad, indexed.grad)


@pytest.mark.parametrize("memory_format", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_layout_stays(sizes, memory_format):
    per_image = torch.randn(sizes).contiguous(memory_format=memory_format)
    selected = select_rows(per_image, INDEX)
    assert selected.is_contiguous() == per_image.is_contiguous()
    assert selected.is_contiguous(memory_format=memory_format)


def test_no_expression_selects_no_row():
    assert select_rows(torch.randn(3, 4, 5, 6), INDEX[:0]).shape == (0, 4, 5, 6)


def test_takes_sequences_that_lie_across_memory():
    queries = torch.randn(3, 4, 7).transpose(1, 2)
    assert torch.equal(select_rows(queries, INDEX), queries[INDEX])
