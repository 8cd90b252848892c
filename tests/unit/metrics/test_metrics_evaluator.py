"""Rows of predictions, one by one and of all sentences that share a map."""

import numpy as np
import pytest

from tris.data.index import Referent
from tris.data.masks import encode_mask
from tris.metrics.evaluator import Prediction, count_predictions, count_shared
from tris.metrics.rows import NUM_COLUMNS, column

SQUARE = np.zeros((4, 4), np.uint8)
SQUARE[1:3, 1:3] = 1


def make_referent(number, *, sentences, is_no_target=False):
    ids = tuple(range(10 * number, 10 * number + sentences))
    texts = ("square",) * sentences
    mask = None if is_no_target else encode_mask(SQUARE)
    return Referent(
        number, 1, "1.jpg", 4, 4, ids, texts, texts, is_no_target=is_no_target, mask=mask
    )


RESPONSES = {
    "empty": np.full((4, 4), -1.0),
    "full": np.ones((4, 4)),
    "one pixel": np.eye(1, 16, 5).reshape(4, 4) - 0.5,
}


@pytest.mark.parametrize("is_no_target", [False, True])
@pytest.mark.parametrize("name", RESPONSES)
def test_sentences_that_share_a_map_have_the_rows_that_each_would_have(name, is_no_target):
    referents = [
        make_referent(number, sentences=number, is_no_target=is_no_target) for number in (3, 1)
    ]
    shared = [Prediction(referent, 0, RESPONSES[name]) for referent in referents]
    single = [
        Prediction(referent, position, RESPONSES[name])
        for referent in referents
        for position in range(len(referent.sentences))
    ]
    np.testing.assert_array_equal(count_shared(shared), count_predictions(single))
    assert column(count_shared(shared), "expression_id").tolist() == [30, 31, 32, 10]


def test_no_map_has_no_row():
    assert count_shared([]).shape == (0, NUM_COLUMNS)
