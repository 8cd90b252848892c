"""What each part beyond the paper brings, one at a time and all together, on harder scenes.

    python -m benchmarks.beyond --runs runs/hard0 runs/hard1 runs/hard2
    python -m benchmarks.beyond --table
    python -m benchmarks.beyond --test --runs runs/hard0 runs/hard1 runs/hard2

Each of the runs (`make stage1 CONFIG=synthetic_hard RUN=... ARGS="--seed ..."`) lends its data and
its stage-0 CLIP. Rows of one part start from the paper's recipe (configs/synthetic_hard_tris.py)
and take that part's settings from configs/synthetic_hard.py, several where they belong together
(`Row.takes`); what comes before the part is the first row's own. Rows of all parts start from
configs/synthetic_hard.py. Trainings are as short as `STEPS` says. Scored on the validation split,
labels on every fourth referent of the training split. Rows that exist are kept. ``--test`` scores
both recipes, the full one after either round, on the test split instead: once, for a row that
exists stays.
"""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from benchmarks import label_quality, segmenter_ablation
from benchmarks.seeded_rows import (
    REPOSITORY,
    STAGE0,
    experiment_of,
    lend,
    read_or_fill,
    row_parser,
    run_stage,
    seed_of,
    table_by_type,
)
from configs import synthetic_hard, synthetic_hard_tris
from tris.config import ExperimentConfig
from tris.data.index import open_index
from tris.errors import exits_cleanly
from tris.pseudo.store import open_label_store

RESULTS = REPOSITORY / "docs" / "beyond.json"
FOLDER = "beyond"
PAPER, ALL, ALL_TWICE = "paper's recipe", "all, one round", "all, two rounds"
PIECE, PIECE_TWICE = f"{ALL}, labels in one piece", f"{ALL_TWICE}, labels in one piece"
CHOSEN, CHOSEN_TWICE = f"{ALL}, labels by their IoU", f"{ALL_TWICE}, labels by their IoU"
CHOSEN_IN_ONE_PIECE = f"{CHOSEN}, in one piece"
TRUE_MASKS = f"{ALL_TWICE}, annotated masks"
TEST_RESULTS = REPOSITORY / "docs" / "beyond_test.json"
TEST_ROWS = (PAPER, ALL, ALL_TWICE)
STEPS = {
    "response": {"referents": 200, "images": 400},
    "segmenter": {"referents": 450, "images": 500},
}
"""By stage and what a batch is made of; half of configs/synthetic_tris.py for random pairs."""
LATER_STEPS = 250
STAGE2 = ("train_segmenter", "self_train")
CONFIGS = {"synthetic_hard_tris": synthetic_hard_tris, "synthetic_hard": synthetic_hard}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        takes: Settings that come from configs/synthetic_hard.py; all others are those of `config`.
        sets: Settings that neither config has, and their values.
        starts_from: Row whose work it builds upon; None = it starts from stage 0.
        lent: What that row lends.
        rounds: Of stage 2; the lent segmenter is the first.
        config: Base of the settings.
        is_ceiling: Whether the targets are annotated masks; then it has no labels to be scored.
    """

    takes: tuple[str, ...] = ()
    sets: tuple[tuple[str, object], ...] = ()
    starts_from: str | None = PAPER
    lent: tuple[str, ...] = ()
    rounds: int = 1
    config: str = "synthetic_hard_tris"
    is_ceiling: bool = False


STAGE2_BATCHES = tuple(
    f"segmenter.{field}"
    for field in (
        "training.sampling", "training.global_batch_size", "training.sentences_per_image",
        "training.learning_rate", "image_losses.referent_weight", "image_losses.dice_weight",
    )
)  # fmt: skip
STAGE1_BATCHES = tuple(
    f"response.{field}"
    for field in (
        "training.sampling", "training.global_batch_size", "training.sentences_per_image",
        "calibration.positive_weight", "calibration.negative_weight",
    )
)  # fmt: skip
MERGING = (
    "labels.selection.method",
    "labels.selection.temperature",
    "labels.selection.rival_weight",
)
FIRST_IN_ONE_PIECE = (("labels.label.components", "highest"),)
IN_ONE_PIECE = (*FIRST_IN_ONE_PIECE, ("self_training.label.components", "highest"))
CHOSEN_LABELS = (
    ("labels.label.competition", "none"),
    ("labels.selection.temperature", 0.1),
    ("labels.selection.rival_weight", 1.0),
)
"""Best of benchmarks/competing_labels.py on validation images here, every component kept."""
CHOSEN_LABELS_IN_ONE_PIECE = (
    *FIRST_IN_ONE_PIECE,
    ("labels.label.competition", "none"),
    ("labels.selection.temperature", 0.2),
    ("labels.selection.rival_weight", 1.0),
)
"""Best of all."""
STAGE1, LABELS = ("response",), ("response", "labels")
ROWS = {
    PAPER: Row(starts_from=None),
    "image-wise stage 1, no calibration": Row(STAGE1_BATCHES, starts_from=None),
    "weighted merging": Row(MERGING, lent=STAGE1),
    "competition": Row(("labels.label.competition",), lent=STAGE1),
    "labels in one piece": Row(sets=FIRST_IN_ONE_PIECE, lent=STAGE1),
    "place words": Row(("segmenter.network.has_place_words",), lent=LABELS),
    "flips": Row(("segmenter.training.flip_probability",), lent=LABELS),
    "image-wise stage 2, its losses and rate": Row(STAGE2_BATCHES, lent=LABELS),
    "a second round, 250 steps more": Row(lent=LABELS, rounds=2),
    ALL: Row(starts_from=None, config="synthetic_hard"),
    ALL_TWICE: Row(starts_from=ALL, lent=LABELS, rounds=2, config="synthetic_hard"),
    TRUE_MASKS: Row(
        starts_from=ALL, lent=LABELS, rounds=2, config="synthetic_hard", is_ceiling=True
    ),
    PIECE: Row(sets=IN_ONE_PIECE, starts_from=ALL, lent=STAGE1, config="synthetic_hard"),
    PIECE_TWICE: Row(
        sets=IN_ONE_PIECE, starts_from=PIECE, lent=LABELS, rounds=2, config="synthetic_hard"
    ),
    CHOSEN: Row(sets=CHOSEN_LABELS, starts_from=ALL, lent=STAGE1, config="synthetic_hard"),
    CHOSEN_TWICE: Row(
        sets=CHOSEN_LABELS, starts_from=CHOSEN, lent=LABELS, rounds=2, config="synthetic_hard"
    ),
    CHOSEN_IN_ONE_PIECE: Row(
        sets=CHOSEN_LABELS_IN_ONE_PIECE, starts_from=ALL, lent=STAGE1, config="synthetic_hard"
    ),
}  # fmt: skip
COLUMNS = {"labels": "labels mIoU", **segmenter_ablation.COLUMNS}
TYPES = ("attribute", "position", "relation", "ordinal", "between", "proximity")


@exits_cleanly
def main() -> None:
    """Train and score what is missing, or print the table; bases come before what they lend to."""
    parser = row_parser(__doc__)
    parser.add_argument("--test", action="store_true", help="score both recipes on the test split")
    arguments = parser.parse_args()
    out, rows, one, columns = RESULTS, tuple(ROWS), measure, COLUMNS
    if arguments.test:
        out, rows, one = TEST_RESULTS, TEST_ROWS, score_test
        columns = segmenter_ablation.COLUMNS
    arguments.out = arguments.out or out
    for depth in sorted(set(map(depth_of, rows))):
        names = [name for name in rows if depth_of(name) <= depth]
        results = read_or_fill(
            arguments, names, one, lambda name: stored_settings(ROWS[name]), row_experiment
        )
    print(table_by_type(results, rows, columns, TYPES))


def depth_of(name: str) -> int:
    """Return how many rows come before one that it builds upon."""
    base = ROWS[name].starts_from
    return 0 if base is None else 1 + depth_of(base)


def measure(name: str, run: Path) -> dict[str, Any]:
    """Train and score one row on one seed; return fractions."""
    folder, row = train(name, run), ROWS[name]
    if row.is_ceiling:
        return segmenter_ablation.score(folder / "ceiling" / "model", folder / "index")
    labels = folder / ("labels" if row.rounds == 1 else f"rounds/{row.rounds}/labels")
    index = open_index(folder / "index_with_masks", "train")
    found = segmenter_ablation.score(folder / "segmenter" / "model", folder / "index")
    found["labels"] = float(label_quality.score(open_label_store(labels), index, every=4).mean())
    return found


def score_test(name: str, run: Path) -> dict[str, Any]:
    """Score one row on the test split; return fractions."""
    folder = train(name, run)
    return segmenter_ablation.score(folder / "segmenter" / "model", folder / "index", "test")


def train(name: str, run: Path) -> Path:
    """Train a row on one seed, as far as it is not; return its run."""
    row = ROWS[name]
    folder = lend(run, STAGE0, to=FOLDER, row=name)
    if row.starts_from is not None:
        lend_work(lend(run, (), to=FOLDER, row=row.starts_from), folder, row)
    settings = [*flags_of(row), f"--seed={seed_of(run)}", "--tracking.tracking=none"]
    for stage in ("train_response", "make_pseudo_labels", "train_segmenter", "self_train"):
        switches = ["--ceiling"] if row.is_ceiling and stage in STAGE2 else []
        run_stage(
            stage, config=row.config, segmenter="tris", folder=folder,
            settings=[*switches, *settings],
        )  # fmt: skip
    return folder


def lend_work(source: Path, folder: Path, row: Row) -> None:
    """Link what a row builds upon; a finished segmenter is the first of several rounds."""
    links = {folder / part: source / part for part in row.lent}
    if row.rounds > 1 and not row.is_ceiling:
        links[folder / "rounds" / "1" / "segmenter"] = source / "segmenter"
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(target.resolve())


def settings_of(row: Row) -> dict[str, Any]:
    """Return what differs from the row's config: its part, and the numbers of steps."""
    taken, base = synthetic_hard.get_config(), CONFIGS[row.config].get_config()
    settings = {path: look_up(taken, path) for path in row.takes}
    settings |= row.sets
    settings["segmenter.rounds"] = row.rounds
    for stage, steps in STEPS.items():
        path = f"{stage}.training.sampling"
        settings[f"{stage}.training.steps"] = steps[settings.get(path, look_up(base, path))]
    if row.rounds > 1:
        settings["self_training.steps"] = LATER_STEPS
    return settings


def stored_settings(row: Row) -> dict[str, Any]:
    """Return what a row's figures are kept with: its settings, and what its targets are."""
    return settings_of(row) | ({"targets": "annotated masks"} if row.is_ceiling else {})


def flags_of(row: Row) -> list[str]:
    """Return what a row is trained with on top of its config, as the command line has it."""
    settings = settings_of(row) | {
        "response.training.evaluate_every": None,
        "segmenter.training.evaluate_every": None,
    }
    return [as_flag(field, value) for field, value in settings.items()]


def row_experiment(name: str) -> ExperimentConfig[Any]:
    """Return all that a row is trained with."""
    row = ROWS[name]
    return experiment_of(config=row.config, segmenter="tris", settings=flags_of(row))


def look_up(config: object, path: str) -> object:
    """Return a field of a field of a config."""
    return reduce(getattr, path.split("."), config)


def as_flag(path: str, value: object) -> str:
    """Return a setting as the command line has it."""
    flag = path.replace("_", "-")
    if isinstance(value, bool):
        head, _, last = flag.rpartition(".")
        return f"--{flag}" if value else f"--{head}.no-{last}"
    return f"--{flag}={value}"


if __name__ == "__main__":
    main()
