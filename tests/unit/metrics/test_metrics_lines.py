"""One prediction as a line of the file that `tris score` reads."""

import numpy as np
import pytest

from tris.data.masks import decode_mask
from tris.data.referent import Referent
from tris.metrics.evaluator import Prediction, to_line
from tris.metrics.predictions import parse_prediction

REFERENT = Referent(
    referent_id=7,
    expression_ids=(70, 71),
    sentences=("one", "two"),
    raw_sentences=("One", "Two"),
    expression_types=("", ""),
    annotation_ids=(3,),
    image_id=1,
    file_name="a.jpg",
    height=3,
    width=4,
)


def respond(foreground, *, no_target=False):
    response = np.full((3, 4), -1.0, np.float32)
    for x, y in foreground:
        response[y, x] = 2.0
    return Prediction(REFERENT, 1, response, no_target)


def test_a_line_names_the_sentence_the_mask_and_the_peak():
    line = parse_prediction(to_line(respond([(2, 1)])))
    assert (line.expression_id, line.referent_id, line.point) == (71, 7, (2, 1))
    assert line.no_target is False
    assert decode_mask(line.mask).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_a_head_that_says_nothing_is_heard_though_there_is_a_mask():
    line = to_line(respond([(2, 1)], no_target=True))
    assert line["no_target"] is True
    assert line["mask"] is not None


@pytest.mark.parametrize("no_target", [False, True])
def test_an_empty_mask_is_null_and_says_that_nothing_fits(no_target):
    line = to_line(respond([], no_target=no_target))
    assert (line["mask"], line["no_target"]) == (None, True)
