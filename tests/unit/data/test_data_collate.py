import pytest
import torch

from tris.batch import IGNORE_INDEX, ExpressionSample
from tris.data.collate import collate


def sample(image_id: int, expression_id: int, **changes) -> ExpressionSample:
    plain = ExpressionSample(
        image=torch.full((3, 4, 4), float(image_id)),
        image_id=image_id,
        original_size=(8, 9),
        content_size=(4, 4),
        token_ids=torch.tensor([2, expression_id, 9]),
        token_mask=torch.tensor([True, True, False]),
        referent_id=10 * image_id,
        expression_id=expression_id,
        text_id=2**62 + expression_id,
    )
    return plain._replace(**changes)


def test_an_image_with_several_sentences_has_one_row():
    batch = collate([sample(5, 1), sample(3, 2), sample(5, 3)])
    assert batch.images.shape == (2, 3, 4, 4)
    assert batch.image_id.tolist() == [5, 3]
    assert batch.image_index.tolist() == [0, 1, 0]
    assert batch.expression_id.tolist() == [1, 2, 3]
    assert torch.equal(batch.images[batch.image_index][:, 0, 0, 0], torch.tensor([5.0, 3.0, 5.0]))


def test_random_pairs_may_keep_a_row_each():
    batch = collate([sample(5, 1), sample(5, 2)], share_images=False)
    assert batch.image_id.tolist() == [5, 5]
    assert batch.image_index.tolist() == [0, 1]


def test_text_ids_keep_63_bits():
    assert collate([sample(1, 7)]).text_id.tolist() == [2**62 + 7]


def test_no_target_anywhere_is_none():
    assert collate([sample(1, 1), sample(2, 2)]).targets is None


def test_a_missing_target_among_others_is_ignored():
    target = torch.ones(4, 4, dtype=torch.uint8)
    targets = collate([sample(1, 1), sample(2, 2, target=target)]).targets
    assert (targets[0] == IGNORE_INDEX).all()
    assert (targets[1] == 1).all()


def test_negatives_are_stacked():
    ids, mask = torch.ones(6, 3, dtype=torch.long), torch.ones(6, 3, dtype=torch.bool)
    negatives = {"negative_token_ids": ids, "negative_token_mask": mask}
    batch = collate([sample(1, 1, **negatives), sample(2, 2, **negatives)])
    assert batch.negative_token_ids.shape == (2, 6, 3)
    assert batch.negative_token_mask.shape == (2, 6, 3)


def test_negatives_for_some_only_are_refused():
    ids = torch.ones(6, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="Either every sample"):
        collate([sample(1, 1, negative_token_ids=ids), sample(2, 2)])


def test_nothing_is_no_batch():
    with pytest.raises(ValueError, match="at least one sample"):
        collate([])
