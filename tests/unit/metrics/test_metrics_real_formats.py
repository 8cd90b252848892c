import json
from collections import Counter

import numpy as np
import pytest

from tris.cli import prepare, score
from tris.data.index import expression_kinds, open_index
from tris.data.masks import decode_mask

FORMATS = ["refcoco", "refcoco+", "refcocog", "grefcoco", "ref-zom"]
RIGHT_REFUSALS = {"no_target_accuracy", "negative_recall", "zero_sample_accuracy"}


@pytest.fixture(scope="module", params=FORMATS)
def index(request, shared_data, tmp_path_factory):
    source = shared_data / "refcoco_mini"
    images = source / "images" / "train2014"
    out = tmp_path_factory.mktemp("index") / "index"
    words = [request.param, "--source", source / request.param, "--images", images, "--out", out]
    prepare.main([*(str(word) for word in words), "--quiet"])
    return out


def predict(index, split, path, *, oracle):
    with path.open("w") as lines:
        for referent in open_index(index, split):
            line = {"ref_id": referent.referent_id, "mask": None}
            if oracle and not referent.is_no_target:
                y, x = np.argwhere(decode_mask(referent.mask))[0].tolist()
                line |= {"mask": referent.mask, "point": [x, y]}
            for expression_id in referent.expression_ids:
                lines.write(json.dumps(line | {"expression_id": expression_id}) + "\n")


def scores(index, split, tmp_path, *, oracle):
    predictions, out = tmp_path / "predictions.jsonl", tmp_path / "scores.json"
    predict(index, split, predictions, oracle=oracle)
    words = ["--index", index, "--split", split, "--predictions", predictions, "--json", out]
    score.main([str(word) for word in words])
    report = json.loads(out.read_text())
    return {name: value for name, value in report.items() if isinstance(value, float)}


def test_sentences_are_counted_by_what_they_mean_where_that_differs(index):
    for path in index.glob("*.arrow"):
        split = open_index(index, path.stem)
        found, facts = Counter(expression_kinds(split).values()), split.facts
        if facts.multi_target or facts.no_target:
            assert found["multi"] == facts.multi_target
            assert found["none"] == facts.no_target
            assert found.total() == facts.expressions
        else:
            assert not found


@pytest.mark.slow
def test_the_truth_scores_one_on_every_metric_of_a_real_format(index, tmp_path):
    for path in index.glob("*.arrow"):
        found = scores(index, path.stem, tmp_path, oracle=True)
        assert len(found) >= 15
        assert found == pytest.approx(dict.fromkeys(found, 1.0))


@pytest.mark.slow
def test_empty_masks_score_zero_but_for_right_refusals_of_a_real_format(index, tmp_path):
    for path in index.glob("*.arrow"):
        facts = open_index(index, path.stem).facts
        found = scores(index, path.stem, tmp_path, oracle=False)
        share = facts.no_target / facts.expressions
        expected = dict.fromkeys(found, 0.0) | {
            name: share for name in ("generalized_mean_iou", "adapted_mean_iou")
        }
        expected |= dict.fromkeys(RIGHT_REFUSALS & set(found), 1.0)
        assert found == pytest.approx(expected)
