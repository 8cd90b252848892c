"""Co-SOD: the embedded validation photographs as CoCA has them, through a user's commands.

    python -m benchmarks.cosod --runs runs/gres0 runs/gres1 runs/gres2
    python -m benchmarks.cosod --table

Asks the networks that `python -m benchmarks.generalized` trained on each run. A category is a kind
of two words ("red circle") that several photographs show; its name is the expression, and all
objects of the kind together are the truth. `tris prepare coca`, `tris predict --saliency` and `tris
score --protocol grser` do the rest. Figures that exist are kept.
"""

import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import generalized
from benchmarks.seeded_rows import REPOSITORY, plain_table, read_or_fill, row_parser
from configs import synthetic_gres
from tris.cli.predict import main as predict
from tris.cli.prepare import main as prepare
from tris.cli.score import main as score
from tris.data.synthetic import is_synthetic_written
from tris.data.synthetic_scenes import draw_coverage, visible_masks
from tris.data.synthetic_truth import list_scenes
from tris.errors import InputError, exits_cleanly

RESULTS = REPOSITORY / "docs" / "cosod.json"
NETWORKS = ("GRSer", "MABP")
FEWEST = 6
METRICS = {
    "mae": "MAE",
    "max_f_measure": "max F",
    "s_measure": "S",
    "mean_e_measure": "E",
    "mean_iou": "mIoU",
}


@exits_cleanly
def main() -> None:
    """Score what is missing, or print the table."""
    arguments = row_parser(__doc__, RESULTS).parse_args()
    results = read_or_fill(
        arguments, NETWORKS, measure, lambda name: {},
        lambda name: generalized.row_experiment(name, rows=generalized.MAIN, share=1.0),
    )  # fmt: skip
    print(plain_table(results, NETWORKS, METRICS))


def measure(name: str, run: Path) -> dict[str, Any]:
    """Predict every category's photographs and score the grey maps; return fractions."""
    model = str(generalized.model_of(name, run))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        counts = write_coca(run / "data", root)
        print(f"{sum(counts.values())} photographs of {len(counts)} categories")
        prepare(
            ["coca", "--source", str(root), "--images", str(root / "image"),
             "--out", str(root / "index"), "--quiet"]
        )  # fmt: skip
        split, out = ["--index", str(root / "index"), "--split", "test"], root / "predicted"
        predict(["--model", model, *split, "--saliency", "--out", str(out)])
        score(
            [*split, "--predictions", str(out / "predictions.jsonl"), "--protocol", "grser",
             "--json", str(root / "scores.json")]
        )  # fmt: skip
        figures: dict[str, Any] = json.loads((root / "scores.json").read_text())
    return {key: figures[key] for key in METRICS}


def write_coca(data: Path, root: Path) -> dict[str, int]:
    """Write ``image/`` and ``binary/``; return how many photographs every category has.

    Raises:
        InputError: If the data set was drawn with other settings: its masks would be others.
    """
    config = synthetic_gres.get_config().data.synthetic
    assert config is not None
    if not is_synthetic_written(config, data):
        raise InputError(f"{data} is not the data set of configs/synthetic_gres.py.")
    scenes = list_scenes(config, "val")
    counts: dict[str, int] = {}
    for color, shape in product(config.palette.colors, config.palette.shapes):
        shown = {
            image_id: [(thing.color, thing.shape) == (color, shape) for thing in things]
            for image_id, things in scenes.items()
        }
        shown = {image_id: wanted for image_id, wanted in shown.items() if any(wanted)}
        if len(shown) < FEWEST:
            continue
        category = f"{color}_{shape}"
        counts[category] = len(shown)
        for folder in ("image", "binary"):
            (root / folder / category).mkdir(parents=True)
        for image_id, wanted in shown.items():
            coverage = [draw_coverage(each, config.image_size) for each in scenes[image_id]]
            truth = visible_masks(np.stack(coverage))[wanted].any(axis=0)
            stem = f"{image_id:06d}"
            photograph = root / "image" / category / f"{stem}.jpg"
            photograph.write_bytes((data / "images" / f"{stem}.jpg").read_bytes())
            Image.fromarray(truth.astype(np.uint8) * 255).save(
                root / "binary" / category / f"{stem}.png"
            )
    return counts


if __name__ == "__main__":
    main()
