"""`tris score`: every metric for predictions that anyone made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from tqdm import tqdm

from tris.data.index import expression_kinds, open_index
from tris.errors import InputError, exits_cleanly
from tris.files import replace_file
from tris.metrics.predictions import read_predictions
from tris.metrics.protocols import PROTOCOLS, ScoringProtocol
from tris.metrics.scorer import Scorer
from tris.metrics.summary import compute_by_group
from tris.metrics.table import groups_table, metrics_table


@dataclass(frozen=True)
class ScoreOptions:
    """Score a predictions file against one split of an index.

    Attributes:
        index: Folder that `tris prepare` wrote.
        split: val, testA, ...
        predictions: JSON Lines, one object per expression: expression_id, ref_id, mask (COCO RLE
            or null), no_target, point.
        protocol: Whose rules; docs/metrics.md explains them.
        resolution: Score in a square raster of this side instead of original pixels.
        json: Write the metrics here, as fractions.
        allow_missing: Score expressions without a prediction as empty masks.
        by_type: Also per type of expression; where the data set names none, by what it means:
            a single object, multi or none.
    """

    index: Path
    split: str
    predictions: Path
    protocol: str = "standard"
    resolution: int | None = None
    json: Path | None = None
    allow_missing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    by_type: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@exits_cleanly
def main(arguments: list[str]) -> None:
    """Run `tris score` with the words that follow it on the command line."""
    options = tyro.cli(ScoreOptions, args=arguments, prog="tris score")
    protocol = _find_protocol(options)
    if options.json is not None:
        _check_target(options.json)
    index = open_index(options.index, options.split)
    scorer = Scorer(index, protocol=protocol, resolution=options.resolution)
    for number, prediction in tqdm(
        read_predictions(options.predictions), unit=" predictions", disable=None
    ):
        try:
            scorer.add(prediction)
        except InputError as error:
            raise InputError(f"{options.predictions}, line {number}: {error}") from error
    num_missing = _handle_missing(scorer, options)
    report = _report(scorer, options, num_missing)
    if options.by_type:
        groups = expression_kinds(index)
        report["by_type"] = compute_by_group(scorer.rows(), groups, protocol=protocol)
    _show(report, scorer.metrics(), options)
    if options.json is not None:
        replace_file(options.json, json.dumps(report, indent=2) + "\n")


def _find_protocol(options: ScoreOptions) -> ScoringProtocol:
    if options.protocol not in PROTOCOLS:
        raise InputError(
            f"there is no protocol {options.protocol!r}: choose one of {', '.join(PROTOCOLS)}."
        )
    if options.resolution is not None and not 1 <= options.resolution <= 10_000:
        raise InputError(f"--resolution {options.resolution} is no side in pixels: try 480.")
    return PROTOCOLS[options.protocol]


def _handle_missing(scorer: Scorer, options: ScoreOptions) -> int:
    missing = scorer.missing()
    if missing and not options.allow_missing:
        some = ", ".join(str(expression_id) for expression_id in missing[:5])
        raise InputError(
            f"{options.predictions} lacks {len(missing)} expressions of the split "
            f"{options.split!r} ({some}{', ...' if len(missing) > 5 else ''}): predict them, or "
            "score them as empty masks with --allow-missing."
        )
    scorer.fill_missing()
    return len(missing)


def _report(scorer: Scorer, options: ScoreOptions, num_missing: int) -> dict[str, Any]:
    return scorer.metrics() | {
        "protocol": options.protocol,
        "resolution": options.resolution,
        "split": options.split,
        "num_expressions": len(scorer.rows()),
        "num_missing": num_missing,
        "num_extra": scorer.num_extra,
    }


def _show(report: dict[str, Any], metrics: dict[str, float], options: ScoreOptions) -> None:
    raster = f"{options.resolution} x {options.resolution}" if options.resolution else "original"
    title = f"protocol {options.protocol}, split {options.split}, {raster} pixels"
    caption = (
        f"{report['num_expressions']} expressions, {report['num_missing']} missing predictions, "
        f"{report['num_extra']} extra predictions (of other splits)"
    )
    console = Console()
    console.print(metrics_table(metrics, title=title, caption=caption))
    if report.get("by_type"):
        console.print(groups_table(report["by_type"], title="by type of expression"))
    elif options.by_type:
        console.print("No expression of this split has a type.")


def _check_target(path: Path) -> None:
    """Find out before scoring, not after it, whether the figures can be written."""
    if path.is_dir():
        raise InputError(f"--json {path} is a folder: give the file to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
