"""The paper's Tables 3, 4 and 5 on the embedded data: what each ingredient of stage 1 brings.

    python -m benchmarks.ablation --runs runs/seed0 runs/seed1 runs/seed2 --out docs/ablation.json
    python -m benchmarks.ablation --table docs/ablation.json

Each of the runs lends its data and its stage-0 CLIP (so a seed differs from stage 0 on); stage 1 is
trained anew for every row below and scored on the validation split. Rows that exist are kept.
"""

import argparse
import json
import os
from functools import partial
from pathlib import Path

from benchmarks.seeded_rows import Results, fill_rows, lend, mean_and_spread, run_stage, seed_of

LENT = ("data", "index", "index_with_masks", "clip", "pretrain")

CLASSIFICATION = {
    "response.network.prompt": "none",
    "response.calibration.positive-weight": "0",
    "response.calibration.negative-weight": "0",
}
PROMPT = CLASSIFICATION | {"response.network.prompt": "both"}
FULL = PROMPT | {
    "response.calibration.positive-weight": "0.1",
    "response.calibration.negative-weight": "0.2",
    "response.calibration.num-negatives": "3",
}
ROWS: dict[str, dict[str, str]] = {
    "classification": CLASSIFICATION,
    "+ prompt text to visual": CLASSIFICATION | {"response.network.prompt": "text_to_visual"},
    "+ prompt both ways": PROMPT,
    "+ prompt, foreground term": FULL | {"response.calibration.negative-weight": "0"},
    "+ prompt, background term": FULL | {"response.calibration.positive-weight": "0"},
    "+ prompt, both terms (K = 3)": FULL,
    "classification, N + 1 = 12": CLASSIFICATION | {"response.training.global-batch-size": "12"},
    "classification, N + 1 = 24": CLASSIFICATION | {"response.training.global-batch-size": "24"},
    "+ prompt, both terms, K = 6": FULL | {"response.calibration.num-negatives": "6"},
}
COLUMNS = (
    ("response", "peak_in_mask_accuracy", "PointM"),
    ("response", "mean_iou", "mIoU"),
    ("prms", "peak_in_mask_accuracy", "PRMS PointM"),
    ("prms", "mean_iou", "PRMS mIoU"),
    ("labels", "mean_iou", "labels mIoU"),
)


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("docs/ablation.json"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(make_table(json.loads(arguments.table.read_text())))
        return
    measured = partial(measure, steps=arguments.steps)
    results = fill_rows(
        ROWS,
        arguments.runs,
        arguments.out,
        measured,
        settings=lambda name: {"steps": arguments.steps, **ROWS[name]},
        jobs=arguments.jobs,
    )
    print(make_table(results))


def measure(name: str, run: Path, *, steps: int) -> dict[str, float]:
    """Train and score one row on one seed; return its columns as fractions."""
    folder = lend(run, LENT, to="ablation", row=name)
    settings = {
        **ROWS[name],
        "seed": str(seed_of(run)),
        "response.training.steps": str(steps),
        "response.training.evaluate-every": "None",
        "data.evaluation-splits": "val",
        "tracking.tracking": "none",
    }
    for stage in ("train_response", "evaluate"):
        run_stage(
            stage, config="synthetic_tris", segmenter="tris", folder=folder,
            settings=[f"--{key}={value}" for key, value in settings.items()],
        )  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    return {f"{step}.{key}": metrics[step]["val"][key] for step, key, _ in COLUMNS}


def make_table(results: Results) -> str:
    """Return Markdown, percent: mean and, of several seeds, standard deviation."""
    lines = [
        "| stage 1 | seeds | " + " | ".join(title for *_, title in COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for name in ROWS:
        if name in results:
            seeds = list(results[name].values())
            cells = [
                mean_and_spread([seed[f"{s}.{key}"] for seed in seeds]) for s, key, _ in COLUMNS
            ]
            lines.append(f"| {name} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
