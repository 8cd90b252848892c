import numpy as np
import pytest

from tris.errors import InputError
from tris.metrics.saliency import SaliencyMean, compute_saliency, saliency_row

TARGET = np.zeros((16, 20), dtype=bool)
TARGET[4:10, 5:15] = True
RANDOM = np.random.default_rng(3)
MAPS = [RANDOM.integers(0, 256, TARGET.shape).astype(np.uint8) for _ in range(3)]


def stretched(saliency):
    scaled = saliency / 255
    return (scaled - scaled.min()) / (scaled.max() - scaled.min())


def test_the_truth_itself_scores_perfectly():
    metrics = compute_saliency(saliency_row(TARGET, TARGET)[None])
    assert metrics == pytest.approx(
        {"mae": 0, "max_f_measure": 1, "s_measure": 1, "mean_e_measure": 1}, abs=5e-3
    )


def test_mae_equals_its_definition():
    metrics = compute_saliency(np.stack([saliency_row(each, TARGET) for each in MAPS]))
    wanted = np.mean([np.abs(stretched(each) - TARGET).mean() for each in MAPS])
    assert metrics["mae"] == pytest.approx(wanted)


def test_max_f_measure_equals_its_definition():
    curves = []
    for saliency in MAPS:
        level = (stretched(saliency) * 255).astype(np.uint8)
        found = [level >= threshold for threshold in range(255, -1, -1)]
        precision = np.array([(f & TARGET).sum() / max(f.sum(), 1) for f in found])
        recall = np.array([(f & TARGET).sum() / TARGET.sum() for f in found])
        curves.append(1.3 * precision * recall / np.maximum(0.3 * precision + recall, 1e-12))
    metrics = compute_saliency(np.stack([saliency_row(each, TARGET) for each in MAPS]))
    assert metrics["max_f_measure"] == pytest.approx(np.mean(curves, axis=0).max())


def test_a_stream_gives_what_all_rows_together_give():
    rows = [saliency_row(each, TARGET, expression_id=n) for n, each in enumerate(MAPS)]
    stream = SaliencyMean()
    assert stream.metrics() == {}
    for row in rows:
        stream.add(row)
    assert stream.metrics() == pytest.approx(compute_saliency(np.stack(rows)))


def test_a_map_of_another_size_is_refused():
    with pytest.raises(InputError, match="original pixels"):
        saliency_row(MAPS[0][:5], TARGET)
