import json
from pathlib import Path

import numpy as np
import pytest

from tris.tracking.local_log import LocalLog
from tris.tracking.panels import GalleryItem, save_gallery

STEPS = {"baseline_whole_image": 0.06, "response": 0.4, "labels": 0.6, "segmenter": 0.54}


def figures(value):
    return {
        "peak_in_mask_accuracy": value + 0.1,
        "mean_iou": value,
        "overall_iou": value,
        "precision_at_50": value,
        "by_type": {"attribute": {"peak_in_mask_accuracy": value, "mean_iou": value / 2}},
    }


def gallery_item(number=7, **changes):
    mask = np.zeros((24, 32), np.uint8)
    mask[4:12, 4:16] = 1
    label = mask.copy()
    label[12:16] = 255
    given = {
        "image": np.full((24, 32, 3), 120, np.uint8),
        "expression_type": "attribute",
        "response": np.linspace(0, 3, 12, dtype=np.float32).reshape(3, 4),
        "label": label,
        "prediction": mask,
        "truth": mask == 1,
        "peak": (20, 10),
        "numbers": {"prediction_iou": 0.75},
    }
    return GalleryItem(number, "the red <ring>", **(given | changes))


@pytest.fixture
def make_item():
    return gallery_item


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run and returns its folder."""

    def make(folder, *, name="synthetic", seed=0, shift=0.0, items=2, **settings) -> Path:
        run = tmp_path / folder
        run.mkdir()
        (run / "config.json").write_text(json.dumps({"name": name, "seed": seed, **settings}))
        metrics = {step: {"val": figures(value + shift)} for step, value in STEPS.items()}
        (run / "metrics.json").write_text(json.dumps(metrics))
        log = LocalLog(run / "segmenter" / "metrics.jsonl")
        for step in (0, 50, 100):
            log.append({"val/mean_iou": step / 200, "val/PointM": 0.5, "train/loss": 1.0}, step)
        log.close()
        save_gallery([gallery_item(number) for number in range(items)], run / "gallery")
        return run

    return make
