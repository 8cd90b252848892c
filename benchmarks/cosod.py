"""Co-SOD: the embedded validation photographs as CoCA has them, through a user's commands.

    python -m benchmarks.cosod --run runs/synthetic_gres \
        --models GRSer=runs/synthetic_gres/segmenter_grser/model

A category is a kind of two words ("red circle") that several photographs show; its name is the
expression, and all objects of the kind together are the truth. `tris prepare coca`, `tris predict
--saliency` and `tris score --protocol grser` do the rest.
"""

import argparse
import json
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from configs import synthetic_gres
from tris.cli.predict import main as predict
from tris.cli.prepare import main as prepare
from tris.cli.score import main as score
from tris.data.synthetic import is_synthetic_written
from tris.data.synthetic_scenes import draw_coverage, visible_masks
from tris.data.synthetic_truth import list_scenes

FEWEST = 6
METRICS = {
    "mae": "MAE",
    "max_f_measure": "max F",
    "s_measure": "S",
    "mean_e_measure": "E",
    "mean_iou": "mIoU",
}


def main() -> None:
    """Print a table, one row per model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run of synthetic_gres")
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    arguments = parser.parse_args()
    models = dict(model.split("=", 1) for model in arguments.models)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        counts = write_coca(arguments.run / "data", root)
        print(f"{sum(counts.values())} photographs of {len(counts)} categories")
        prepare(
            ["coca", "--source", str(root), "--images", str(root / "image"),
             "--out", str(root / "index"), "--quiet"]
        )  # fmt: skip
        rows = {name: measure(folder, root) for name, folder in models.items()}
    print(f"| | {' | '.join(METRICS.values())} |\n|{'---|' * (len(METRICS) + 1)}")
    for name, figures in rows.items():
        print(f"| {name} | {' | '.join(f'{100 * figures[key]:.1f}' for key in METRICS)} |")


def write_coca(data: Path, root: Path) -> dict[str, int]:
    """Write ``image/`` and ``binary/``; return how many photographs every category has.

    Raises:
        SystemExit: If the data set was drawn with other settings: its masks would be others.
    """
    config = synthetic_gres.get_config().data.synthetic
    assert config is not None
    if not is_synthetic_written(config, data):
        raise SystemExit(f"{data} is not the data set of configs/synthetic_gres.py.")
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


def measure(folder: str, root: Path) -> dict[str, float]:
    """Predict every category's photographs and score the grey maps; return fractions."""
    split, out = ["--index", str(root / "index"), "--split", "test"], root / "predicted"
    predict(["--model", folder, *split, "--saliency", "--out", str(out)])
    score(
        [*split, "--predictions", str(out / "predictions.jsonl"), "--protocol", "grser",
         "--json", str(root / "scores.json")]
    )  # fmt: skip
    figures: dict[str, float] = json.loads((root / "scores.json").read_text())
    return figures


if __name__ == "__main__":
    main()
