"""The coordinate search of benchmarks/competing_labels.py."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import competing_labels
from benchmarks.competing_labels import Settings, change_crf, search
from tris.pseudo.label import EMBEDDED_LABELS
from tris.pseudo.prms import PrmsConfig

CASES = [SimpleNamespace(referents=[1]), SimpleNamespace(referents=[2])]


@pytest.mark.parametrize(("values", "kept"), [((1.0, 30.0), 16.0), ((1.0, 17.0, 30.0), 17.0)])
def test_what_no_value_beats_is_kept(monkeypatch, values, kept):
    def score(cases, settings):
        return np.full(len(cases), 1 / (1 + abs(settings.label.crf.bilateral_sxy - 17.4)))

    monkeypatch.setattr(competing_labels, "score", score)
    given = Settings(PrmsConfig(), EMBEDDED_LABELS)
    assert given.label.crf.bilateral_sxy == 16.0
    found = search(CASES, given, {"reach": (change_crf("bilateral_sxy"), values)})
    assert found.label.crf.bilateral_sxy == kept
