"""What the default's labels are worth to the other segmenters, against those of the paper's.

    python -m benchmarks.label_recipes --runs runs/seed0 runs/seed1 runs/seed2
    python -m benchmarks.label_recipes --table

Each of the runs (`make stage1 stage2 RUN=... ARGS="--seed ..."`) lends its data, its CLIP, its
stage 1 and the labels that stage 1 made; the paper's come from a stage 1 of
configs/synthetic_tris.py on the same data and CLIP. A segmenter's own settings, those of
CONFIG=synthetic, are the same in both rows; trainings are short. Scored on the validation split,
labels on every fourth referent of the training split. Rows that exist are kept. One thread per
training.
"""

import os
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import generalized, label_quality, segmenter_ablation
from benchmarks.seeded_rows import (
    REPOSITORY,
    STAGE0,
    Results,
    experiment_of,
    lend,
    read_or_fill,
    row_parser,
    run_stage,
    seed_of,
    table_by_type,
)
from configs import synthetic
from tris.config import ExperimentConfig
from tris.data.index import open_index
from tris.errors import exits_cleanly
from tris.pseudo.store import open_label_store

RESULTS = REPOSITORY / "docs" / "label_recipes.json"
FOLDER = "label_recipes"
BEFORE_STAGE2 = ("response", "labels")
PAPER, OURS = "the paper's labels", "the default's labels"
SCENES = "synthetic"
"""Config whose scenes the runs have, and whose files of the segmenters are taken."""
RECIPES = {PAPER: "synthetic_tris", OURS: SCENES}
MAKES_PAPER_LABELS = threading.Lock()
COLUMNS = {"labels": "labels mIoU", **segmenter_ablation.COLUMNS}


@dataclass(frozen=True)
class Row:
    """One training: a segmenter, and the config that decides stage 1 and labels, not the scenes."""

    segmenter: str
    config: str


SEGMENTERS = {"DMMI": "dmmi", "HARIS": "haris", "MABP": "mabp", "GRSer": "grser"}
ROWS = {
    f"{title}, {labels}": Row(segmenter, config)
    for title, segmenter in SEGMENTERS.items()
    for labels, config in RECIPES.items()
}


@exits_cleanly
def main() -> None:
    """Train and score what is missing, or print the tables."""
    parser = row_parser(__doc__, RESULTS)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    results = read_or_fill(
        arguments, ROWS, partial(measure, steps=arguments.steps),
        lambda name: {"steps": arguments.steps, "labels": ROWS[name].config, "scenes": SCENES},
        partial(row_experiment, steps=arguments.steps),
    )  # fmt: skip
    print(table_by_type(results, ROWS, COLUMNS, segmenter_ablation.TYPES))
    print(f"\n{table_of_gains(results)}")


def paper_folder(run: Path) -> Path:
    """Return where the paper's recipe has its stage 1 and labels, on a run's data and CLIP."""
    return lend(run, STAGE0, to=FOLDER, row=PAPER)


def make_paper_labels(run: Path) -> None:
    """Train the paper's stage 1 and make its labels, as far as they are not there.

    Rows of one run that start together wait for each other here.
    """
    for stage in ("train_response", "make_pseudo_labels"):
        run_stage(
            stage, config="synthetic_tris", segmenter="tris", folder=paper_folder(run),
            settings=[
                f"--seed={seed_of(run)}", "--tracking.tracking=none",
                "--response.training.evaluate-every=None",
            ],
        )  # fmt: skip


def measure(name: str, run: Path, *, steps: int) -> dict[str, Any]:
    """Train and score one row on one seed; return fractions."""
    row = ROWS[name]
    shared = [part for part in generalized.LENT if part not in BEFORE_STAGE2]
    folder = lend(run, shared, to=FOLDER, row=name)
    recipe = run
    if row.config != RECIPES[OURS]:
        with MAKES_PAPER_LABELS:
            make_paper_labels(run)
        recipe = paper_folder(run)
    for part in BEFORE_STAGE2:
        if not os.path.lexists(folder / part):
            (folder / part).symlink_to((recipe / part).resolve())
    run_stage(
        "train_segmenter", config=row.config, segmenter=row.segmenter,
        segmenter_of=SCENES, folder=folder,
        settings=[f"--seed={seed_of(run)}", "--tracking.tracking=none", *flags_of(steps=steps)],
    )  # fmt: skip
    found = segmenter_ablation.score(folder / f"segmenter_{row.segmenter}" / "model", run / "index")
    index = open_index(run / "index_with_masks", "train")
    found["labels"] = float(
        label_quality.score(open_label_store(folder / "labels"), index, every=4).mean()
    )
    return found


def flags_of(*, steps: int) -> list[str]:
    """Return what a row is trained with on top of its config, as the command line has it."""
    return [f"--segmenter.training.steps={steps}", "--segmenter.training.evaluate-every=None"]


def row_experiment(name: str, *, steps: int) -> ExperimentConfig[Any]:
    """Return all that a row is trained with."""
    row = ROWS[name]
    experiment = experiment_of(
        config=row.config, segmenter=row.segmenter, segmenter_of=SCENES,
        settings=flags_of(steps=steps),
    )  # fmt: skip
    return replace(experiment, data=synthetic.get_config().data)


def table_of_gains(results: Results) -> str:
    """Return Markdown: by segmenter and run, points of mean IoU that the default's labels add."""
    runs = sorted({run for row in results.values() for run in row})
    lines = [f"| mIoU | {' | '.join(runs)} |", "|" + "---|" * (1 + len(runs))]
    for title in SEGMENTERS:
        ours, paper = (results.get(f"{title}, {labels}", {}) for labels in (OURS, PAPER))
        cells = [
            f"{100 * (ours[run]['mean_iou'] - paper[run]['mean_iou']):+.1f}"
            if run in ours and run in paper
            else ""
            for run in runs
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
