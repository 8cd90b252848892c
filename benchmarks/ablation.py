"""The paper's Tables 3, 4 and 5 on the embedded data: what each ingredient of stage 1 brings.

    python -m benchmarks.ablation --runs runs/seed0 runs/seed1 runs/seed2
    python -m benchmarks.ablation --table

Each of the runs lends its data and its stage-0 CLIP (so a seed differs from stage 0 on); stage 1 is
trained anew for every row below and scored on the validation split. Rows that exist are kept.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.seeded_rows import (
    REPOSITORY,
    STAGE0,
    Results,
    experiment_of,
    lend,
    mean_and_spread,
    read_or_fill,
    row_parser,
    run_stage,
    seed_of,
)
from tris.config import ExperimentConfig
from tris.errors import exits_cleanly

RESULTS = REPOSITORY / "docs" / "ablation.json"
CONFIG = "synthetic_tris"

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


@exits_cleanly
def main() -> None:
    """Run what is missing, or print the table."""
    parser = row_parser(__doc__, RESULTS)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    measured = partial(measure, steps=arguments.steps)
    results = read_or_fill(
        arguments, ROWS, measured, lambda name: {"steps": arguments.steps, **ROWS[name]},
        partial(row_experiment, steps=arguments.steps),
    )  # fmt: skip
    print(make_table(results))


def measure(name: str, run: Path, *, steps: int) -> dict[str, float]:
    """Train and score one row on one seed; return its columns as fractions."""
    folder = lend(run, STAGE0, to="ablation", row=name)
    own = [f"--seed={seed_of(run)}", "--tracking.tracking=none"]
    for stage in ("train_response", "evaluate"):
        run_stage(
            stage, config=CONFIG, segmenter="tris", folder=folder,
            settings=[*flags_of(name, steps=steps), *own],
        )  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text())
    return {f"{step}.{key}": metrics[step]["val"][key] for step, key, _ in COLUMNS}


def flags_of(name: str, *, steps: int) -> list[str]:
    """Return what a row is trained with on top of the config, as the command line has it."""
    settings = {
        **ROWS[name],
        "response.training.steps": str(steps),
        "response.training.evaluate-every": "None",
        "data.evaluation-splits": "val",
    }
    return [f"--{key}={value}" for key, value in settings.items()]


def row_experiment(name: str, *, steps: int) -> ExperimentConfig[Any]:
    """Return all that a row is trained with."""
    return experiment_of(config=CONFIG, segmenter="tris", settings=flags_of(name, steps=steps))


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
