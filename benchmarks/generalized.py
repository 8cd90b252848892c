"""Sentences about several objects and about none: every segmenter, text alone and true masks.

    python -m benchmarks.generalized --runs runs/gres0 runs/gres1 runs/gres2
    python -m benchmarks.generalized --runs ... --rows ablations --share 0.5
    python -m benchmarks.generalized --table

Each of the runs (`make stage1 CONFIG=synthetic_gres RUN=... ARGS="--seed ..."`, then its labels:
stages/make_pseudo_labels.py) lends its data, its stage 1 and its labels; every row is trained anew.
The main rows are scored on the splits on which nothing is chosen (gres_testA, groups_test), the
ablations, which are the papers' own (MABP: Tables V and VI; GRSer: Tables 4, 5 and 6), on the
others. Rows that exist are kept. One thread per training.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.predictions import ask
from benchmarks.seeded_rows import (
    REPOSITORY,
    Results,
    experiment_of,
    lend,
    mean_and_spread,
    read_or_fill,
    row_parser,
    run_stage,
    seed_of,
)
from configs import synthetic_gres
from stages.evaluate_generalized import generalized_splits, summarise_generalized
from stages.setup import Folders
from tris.config import ExperimentConfig
from tris.data.index import Index
from tris.data.masks import decode_mask
from tris.errors import exits_cleanly
from tris.metrics.evaluator import count_predictions, saliency_map
from tris.metrics.iou import mask_from_response
from tris.metrics.protocols import ScoringProtocol
from tris.metrics.saliency import SaliencyMean, saliency_row
from tris.segmenters.contract import Segmenter
from tris.segmenters.grser.hierarchizer import Ranking

RESULTS = {
    "main": REPOSITORY / "docs" / "generalized.json",
    "ablations": REPOSITORY / "docs" / "generalized_ablations.json",
}
LENT = (
    "data", "index", "index_with_masks", "index_gres", "index_groups", "clip", "pretrain",
    "response", "labels", "composition.npz",
)  # fmt: skip
CONFIG = "synthetic_gres"


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        segmenter: Its name.
        settings: On top of the config's.
        is_ceiling: Learns from annotated masks.
        weights_of: Another row whose network is asked again; nothing is trained.
        evaluation_ranking: Order of GRSer's heatmaps then.
    """

    segmenter: str
    settings: tuple[str, ...] = ()
    is_ceiling: bool = False
    weights_of: str = ""
    evaluation_ranking: Ranking | None = None


SINGLE_ONLY = tuple(
    f"--segmenter.composition.{kind}-share={share}"
    for kind, share in (("single", 1), ("multi", 0), ("none", 0))
)
MAIN = {
    "TRIS net, nothing composed": Row("tris", SINGLE_ONLY),
    "TRIS net": Row("tris"),
    "MABP, nothing composed": Row("mabp", SINGLE_ONLY),
    "MABP": Row("mabp"),
    "GRSer": Row("grser"),
    "TRIS net, true masks": Row("tris", is_ceiling=True),
    "MABP, true masks": Row("mabp", is_ceiling=True),
    "GRSer, true masks": Row("grser", is_ceiling=True),
}


def mabp(*settings: str) -> Row:
    """Return an ablation of MABP's decoder."""
    return Row("mabp", tuple(f"--segmenter.network.decoder.{setting}" for setting in settings))


def grser(*settings: str) -> Row:
    """Return an ablation of GRSer."""
    return Row("grser", tuple(f"--segmenter.network.{setting}" for setting in settings))


def in_groups_of(size: int, *, batch_size: int) -> Row:
    """Return GRSer trained and asked in groups of ``size``.

    A group of one would be the row without vision heatmaps.
    """
    row = grser(f"input-spec.group-size={size}", f"input-spec.largest-group={size}")
    batch = f"--segmenter.training.global-batch-size={batch_size}"
    return Row("grser", (*row.settings, batch))


NO_GENERATOR = ("no-has-query-generator",)
NO_WORDS = (*NO_GENERATOR, "no-has-words-in-cross-attention", "no-has-words-in-self-attention")
ABLATIONS = {
    "MABP": Row("mabp"),
    "MABP V.1: naive": mabp(*NO_WORDS, "no-has-regional-supervision"),
    "MABP V.2: + regional supervision": mabp(*NO_WORDS),
    "MABP V.3: + mixed-modal decoder": mabp(*NO_GENERATOR),
    "MABP VI: masks of the last head only": mabp("num-mask-heads=1"),
    "MABP VI: no no-target branch": mabp("num-no-target-heads=0"),
    "MABP VI: one no-target branch": mabp("num-no-target-heads=1"),
    "GRSer": Row("grser"),
    "GRSer: without stage 1's response": grser("no-has-response-input"),
    "GRSer 4: random order in training and test": grser("ranking=random"),
    "GRSer 4: random order in training": Row(
        "grser", weights_of="GRSer 4: random order in training and test", evaluation_ranking="both"
    ),
    "GRSer 4: random order in test": Row("grser", weights_of="GRSer", evaluation_ranking="random"),
    "GRSer 4: positive rank": grser("ranking=positive"),
    "GRSer 4: negative rank": grser("ranking=negative"),
    "GRSer 5: without vision-activated heatmaps": grser("no-has-vision-heatmaps"),
    "GRSer 5: without mirror training": grser("no-has-mirror-training"),
    "GRSer 5: without triplet loss": grser("no-has-triplet-loss"),
    "GRSer 5: without triplet loss and response": grser(
        "no-has-triplet-loss", "no-has-response-input"
    ),
    "GRSer 5: without triplet loss, response, heatmap loss": grser(
        "no-has-triplet-loss", "no-has-response-input", "heatmap-weight=0"
    ),
    "GRSer 6: N = 3": in_groups_of(3, batch_size=33),
    "GRSer 6: N = 5": in_groups_of(5, batch_size=30),
}
SENTENCES = {
    "generalized_mean_iou": "gIoU",
    "cumulative_iou": "cIoU",
    "no_target_accuracy": "N-acc",
    "target_accuracy": "T-acc",
    "precision_at_70": "Pr@.7",
    "precision_at_80": "Pr@.8",
    "precision_at_90": "Pr@.9",
}
GIOU, KINDS = "generalized_mean_iou", ("single", "multi", "none")
GROUPS = {
    "adapted_mean_iou": "adapted mIoU",
    "mean_e_measure": "E",
    "target_accuracy": "T-acc of groups",
    "negative_recall": "R_neg",
    "negative_recall_by_head": "R_neg by verdict",
}


@exits_cleanly
def main() -> None:
    """Train and score what is missing, or print a table."""
    parser = row_parser(__doc__)
    parser.add_argument("--rows", choices=tuple(RESULTS), default="main")
    parser.add_argument("--share", type=float, default=1.0, help="of the configured steps")
    arguments = parser.parse_args()
    arguments.out = arguments.out or RESULTS[arguments.rows]
    rows = MAIN if arguments.rows == "main" else ABLATIONS
    trained = [name for name, row in rows.items() if not row.weights_of]
    for names in (trained, rows):
        results = read_or_fill(
            arguments, names, partial(measure, rows=rows, share=arguments.share),
            lambda name: settings_of(rows[name], share=arguments.share),
            partial(row_experiment, rows=rows, share=arguments.share),
        )  # fmt: skip
    print(make_table(results, rows))


def settings_of(row: Row, *, share: float) -> dict[str, Any]:
    """Return what a row's figures depend on besides the config, to be kept beside them."""
    settings: dict[str, Any] = {"share": share, "changes": list(row.settings)}
    if row.weights_of:
        settings |= {"weights_of": row.weights_of, "evaluation_ranking": row.evaluation_ranking}
    return settings


def measure(name: str, run: Path, *, rows: dict[str, Row], share: float) -> dict[str, Any]:
    """Train and score one row on one seed; return the metrics of every split, fractions."""
    row = rows[name]
    folder = lend(run, LENT, to=folder_of(rows), row=row.weights_of or name)
    if not row.weights_of:
        train(row, run, folder, share=share)
    network = Segmenter.from_pretrained(folder / job_of(row) / "model")
    if row.evaluation_ranking is not None:
        network.config = replace(network.config, evaluation_ranking=row.evaluation_ranking)
    wanted = {"gres_testA", "groups_test"} if rows is MAIN else {"gres_val", "groups_val"}
    return {
        split: score(network, index, protocol)
        for split, index, protocol in generalized_splits(synthetic_gres.get_config(), Folders(run))
        if split in wanted
    }


def folder_of(rows: dict[str, Row]) -> str:
    """Return where a table's trainings lie, beside the runs."""
    return "generalized" if rows is MAIN else "ablations"


def model_of(name: str, run: Path) -> Path:
    """Return the model directory that a row of the main table was trained to on a run."""
    return lend(run, (), to=folder_of(MAIN), row=name) / job_of(MAIN[name]) / "model"


def train(row: Row, run: Path, folder: Path, *, share: float) -> None:
    """Train a row's network on one thread."""
    run_stage(
        "train_segmenter", config=CONFIG, segmenter=row.segmenter, folder=folder,
        settings=[
            f"--seed={seed_of(run)}", "--tracking.tracking=none", *flags_of(row, share=share),
            *(["--ceiling"] if row.is_ceiling else []),
        ],
    )  # fmt: skip


def flags_of(row: Row, *, share: float) -> list[str]:
    """Return what a row is trained with on top of the config, as the command line has it."""
    experiment = experiment_of(config=CONFIG, segmenter=row.segmenter, settings=row.settings)
    steps = experiment.segmenter.training.steps
    assert steps is not None
    return [
        f"--segmenter.training.steps={round(share * steps)}",
        "--segmenter.training.evaluate-every=None", *row.settings,
    ]  # fmt: skip


def row_experiment(name: str, *, rows: dict[str, Row], share: float) -> ExperimentConfig[Any]:
    """Return all that a row, or the one whose network it asks, is trained with."""
    row = rows[rows[name].weights_of or name]
    flags = flags_of(row, share=share)
    return experiment_of(config=CONFIG, segmenter=row.segmenter, settings=flags)


def job_of(row: Row) -> str:
    """Return the folder in which a row's network lies."""
    job = "ceiling" if row.is_ceiling else "segmenter"
    return job if row.segmenter == "tris" else f"{job}_{row.segmenter}"


def score(network: Segmenter, index: Index, protocol: ScoringProtocol) -> dict[str, Any]:
    """Return the metrics of a split.

    Of image groups also the mean E-measure of the maps, black where the protocol counts the
    sentence as refused (E-measure stretches any other to the full range), and R_neg by what the
    network's own verdict refuses, empty masks aside.
    """
    predictions = list(ask(network, index))
    rows = count_predictions(predictions)
    figures = summarise_generalized(rows, index, protocol)
    if any(index.column("group").unique().to_pylist()):
        saliency = SaliencyMean()
        for each in predictions:
            assert each.referent.mask is not None
            is_empty = mask_from_response(each.response).sum() < max(1, protocol.minimum_area)
            grey = saliency_map(each) * np.uint8(not is_empty)
            saliency.add(saliency_row(grey, decode_mask(each.referent.mask)))
        figures["mean_e_measure"] = saliency.metrics()["mean_e_measure"]
        by_head = replace(protocol, no_target_by="head")
        figures["negative_recall_by_head"] = summarise_generalized(rows, index, by_head)[
            "negative_recall"
        ]
    return figures


def make_table(results: Results, rows: Iterable[str]) -> str:
    """Return Markdown, percent: mean and, of several seeds, standard deviation."""
    titles = ["", "seeds", *SENTENCES.values(), f"gIoU: {' / '.join(KINDS)}", *GROUPS.values()]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name in rows:
        runs = list(results.get(name, {}).values())
        if not runs:
            continue
        sentences, groups = (
            [mean_and_spread([figures_of(run, kind)[key] for run in runs]) for key in keys]
            for kind, keys in (("gres", SENTENCES), ("groups", GROUPS))
        )
        by_kind = " / ".join(
            f"{100 * mean(figures_of(run, 'gres')['by_type'][kind][GIOU] for run in runs):.1f}"
            for kind in KINDS
        )
        cells = [*sentences, by_kind, *groups]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figures_of(run: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the metrics of the split of a kind."""
    (split,) = (name for name in run if name.startswith(kind))
    figures: dict[str, Any] = run[split]
    return figures


if __name__ == "__main__":
    main()
