"""The ablations of DMMI and HARIS on the embedded data: what each part brings to stage 2.

    python -m benchmarks.segmenter_ablation --runs runs/seed0 runs/seed1 runs/seed2
    python -m benchmarks.segmenter_ablation --table

Each of the runs (`make stage1 stage2 RUN=... ARGS="--seed ..."`) lends its stage 1 and its labels;
every row below is trained anew on them, for half as many steps as configs/segmenter says, and
scored on the validation split. Rows that exist are kept. One thread per training.
"""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.predictions import predict
from benchmarks.seeded_rows import (
    REPOSITORY,
    experiment_of,
    lend,
    read_or_fill,
    row_parser,
    run_stage,
    seed_of,
    table_by_type,
)
from tris.config import ExperimentConfig
from tris.data.index import expression_types, open_index
from tris.errors import exits_cleanly
from tris.metrics.evaluator import count_predictions
from tris.metrics.summary import summarise

LENT = ("data", "index", "clip", "response", "labels")
CONFIG = "synthetic"
RESULTS = REPOSITORY / "docs" / "segmenter_ablation.json"
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "DMMI": ("dmmi", ()),
    "DMMI without similarity loss": ("dmmi", ("--segmenter.network.similarity-weight=0",)),
    "DMMI without contrastive loss": ("dmmi", ("--segmenter.network.contrastive-weight=0",)),
    "DMMI, one scale": (
        "dmmi", ("--segmenter.network.regions", "1", "--segmenter.network.windows", "1"),
    ),
    "HARIS": ("haris", ()),
    "HARIS without feedback": ("haris", ("--segmenter.network.no-has-feedback",)),
    "HARIS without hierarchy": ("haris", ("--segmenter.network.no-has-hierarchy",)),
}  # fmt: skip
COLUMNS = {"peak_in_mask_accuracy": "PointM", "mean_iou": "mIoU", "overall_iou": "oIoU"}
TYPES = ("attribute", "position", "relation")


@exits_cleanly
def main() -> None:
    """Train and score what is missing, or print the table."""
    parser = row_parser(__doc__, RESULTS)
    parser.add_argument("--steps", type=int, default=250)
    arguments = parser.parse_args()
    results = read_or_fill(
        arguments, ROWS, partial(measure, steps=arguments.steps),
        lambda name: {"steps": arguments.steps, "changes": list(ROWS[name][1])},
        partial(row_experiment, steps=arguments.steps),
    )  # fmt: skip
    print(table_by_type(results, ROWS, COLUMNS, TYPES))


def measure(name: str, run: Path, *, steps: int) -> dict[str, Any]:
    """Train and score one row on one seed; return fractions."""
    segmenter, _ = ROWS[name]
    folder = lend(run, LENT, to="segmenter_ablation", row=name)
    run_stage(
        "train_segmenter", config=CONFIG, segmenter=segmenter, folder=folder,
        settings=[
            f"--seed={seed_of(run)}", "--tracking.tracking=none", *flags_of(name, steps=steps)
        ],
    )  # fmt: skip
    return score(folder / f"segmenter_{segmenter}" / "model", run / "index")


def flags_of(name: str, *, steps: int) -> list[str]:
    """Return what a row is trained with on top of the config, as the command line has it."""
    return [
        f"--segmenter.training.steps={steps}", "--segmenter.training.evaluate-every=None",
        *ROWS[name][1],
    ]  # fmt: skip


def row_experiment(name: str, *, steps: int) -> ExperimentConfig[Any]:
    """Return all that a row is trained with."""
    flags = flags_of(name, steps=steps)
    return experiment_of(config=CONFIG, segmenter=ROWS[name][0], settings=flags)


def score(model: Path, index_directory: Path, split: str = "val") -> dict[str, Any]:
    """Return the metrics of a model directory on a split, overall and by type."""
    index = open_index(index_directory, split)
    rows = count_predictions(predict(model, index))
    return summarise(rows, expression_types(index), names=tuple(COLUMNS))


if __name__ == "__main__":
    main()
