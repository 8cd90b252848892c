"""What the ablations share: rows times seeds, each trained in a folder of its own on a run's work.

Rows that exist are kept, so a further seed, or a command that was stopped, costs only what is new.
A digest of the whole experiment is kept beside a row's figures, so that seeds of one row are of one
recipe.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tris.config import ExperimentConfig, load, to_json
from tris.errors import InputError

REPOSITORY = Path(__file__).resolve().parent.parent
STAGE0 = ("data", "index", "index_with_masks", "clip", "pretrain")
"""What a row that trains its own stage 1 borrows of a run."""
Results = dict[str, dict[str, Any]]
"""Metrics by row, then by the name of the run."""


def row_parser(doc: str, results: Path | None = None) -> argparse.ArgumentParser:
    """Return the options that every table has.

    Args:
        doc: Of the benchmark.
        results: Where its figures are kept; None = the caller decides.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=results)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="print what there is, train nothing")
    return parser


def read_or_fill(
    arguments: argparse.Namespace,
    rows: Iterable[str],
    measure: Callable[[str, Path], dict[str, Any]],
    settings: Callable[[str], dict[str, Any]],
    experiment: Callable[[str], ExperimentConfig[Any]],
) -> Results:
    """Return what there is, with ``--table``, or measure what is missing first (`fill_rows`).

    Raises:
        InputError: If there is nothing to print, or a row was trained with another recipe.
    """
    out: Path = arguments.out
    if not arguments.table:
        return fill_rows(
            rows, arguments.runs, out, measure, settings=settings, experiment=experiment,
            jobs=arguments.jobs,
        )  # fmt: skip
    if not out.is_file():
        raise InputError(f"{out} is not there yet: give --runs instead of --table.")
    results: Results = json.loads(out.read_text())
    return results


def fill_rows(
    rows: Iterable[str],
    runs: Sequence[Path],
    out: Path,
    measure: Callable[[str, Path], dict[str, Any]],
    *,
    settings: Callable[[str], dict[str, Any]],
    experiment: Callable[[str], ExperimentConfig[Any]],
    jobs: int,
) -> Results:
    """Measure what ``out`` lacks, several at a time; each row is written as soon as it is there.

    Args:
        rows: Their names.
        runs: One per seed; the folder's name is the seed's.
        out: JSON of what is known.
        measure: Trains and scores a row on a run.
        settings: What makes a row what it is, kept beside its figures.
        experiment: All that a row is trained with; its digest is kept, too.
        jobs: Rows at a time.

    Raises:
        InputError: If a row that is known was trained with another recipe.
    """
    results: Results = json.loads(out.read_text()) if out.is_file() else {}
    names = list(rows)
    digests = {name: digest_of(experiment(name)) for name in names}
    for name in names:
        check_known(out, name, results.get(name, {}), settings(name), digests[name])
    todo = [(name, run) for run in runs for name in names if run.name not in results.get(name, {})]
    pool = ThreadPoolExecutor(jobs)
    try:
        started = {pool.submit(measure, name, run): (name, run) for name, run in todo}
        for done in as_completed(started):
            (name, run), metrics = started[done], done.result()
            recipe = {"settings": settings(name), "config": digests[name]}
            results.setdefault(name, {})[run.name] = recipe | metrics
            out.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{run.name}: {name}: {metrics}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def check_known(
    out: Path, name: str, seeds: Mapping[str, dict[str, Any]], settings: dict[str, Any], digest: str
) -> None:
    """Make sure that a further seed of a row is trained as those were that are known.

    Rows of a time before digests were kept are accepted, with a warning.

    Raises:
        InputError: If one was trained with another recipe.
    """
    for seed, known in seeds.items():
        if known["settings"] != settings or known.get("config", digest) != digest:
            what = "another config" if known["settings"] == settings else "other settings"
            raise InputError(
                f"{out}: {name!r} of {seed} was trained with {what} than this command has: take it "
                "out, or give another --out."
            )
    unsure = [seed for seed, known in seeds.items() if "config" not in known]
    if unsure:
        warnings.warn(
            f"{out}: {name!r} of {', '.join(unsure)} does not say which config it was trained "
            "with; it is taken for the present one.",
            stacklevel=2,
        )


def digest_of(experiment: ExperimentConfig[Any]) -> str:
    """Return the SHA-256 of all settings of an experiment but its seed and its dashboards.

    Those that are None do not count, which is how settings that came later say that they are off.
    """
    settings = to_json(experiment)
    del settings["seed"], settings["tracking"]
    return hashlib.sha256(json.dumps(_given(settings), sort_keys=True).encode()).hexdigest()


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not None."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }


def experiment_of(
    *, config: str, segmenter: str, settings: Sequence[str], segmenter_of: str = ""
) -> ExperimentConfig[Any]:
    """Return what `run_stage` trains with under such settings, none of them a stage's switch."""
    return load(*config_files(config, segmenter, segmenter_of), settings)


def config_files(config: str, segmenter: str, segmenter_of: str) -> tuple[Path, Path]:
    """Return the files of an experiment: its config, and the segmenter's of it or of another."""
    configs = REPOSITORY / "configs"
    name = f"{segmenter}_{segmenter_of or config}.py"
    return configs / f"{config}.py", configs / "segmenter" / name


def lend(run: Path, parts: Iterable[str], *, to: str, row: str) -> Path:
    """Return a folder beside the run, under ``to``, in which its parts are linked."""
    slug = "".join(letter if letter.isalnum() else "_" for letter in row)
    folder = run.resolve().parent / to / f"{run.name}_{slug}"
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if not os.path.lexists(folder / part):
            (folder / part).symlink_to((run / part).resolve())
    return folder


def seed_of(run: Path) -> int:
    """Return the seed that a run was trained with."""
    seed: int = json.loads((run / "config.json").read_text())["seed"]
    return seed


def run_stage(
    stage: str,
    *,
    config: str,
    segmenter: str,
    folder: Path,
    settings: Sequence[str],
    segmenter_of: str = "",
) -> None:
    """Run a stage on one thread; its output goes beside the run.

    Args:
        stage: Name of the script.
        config: Name of the experiment's file.
        segmenter: Name of the segmenter.
        folder: The run.
        settings: On top of both files.
        segmenter_of: Config whose file of the segmenter is meant; empty = of ``config``.
    """
    experiment, network = config_files(config, segmenter, segmenter_of)
    command = [
        sys.executable, f"stages/{stage}.py", "--config", str(experiment),
        "--segmenter", str(network), "--run", str(folder), *settings,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with (folder / f"{stage}.log").open("w") as log:
        subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, check=True)


def table_by_type(
    results: Results, rows: Iterable[str], columns: Mapping[str, str], types: Sequence[str]
) -> str:
    """Return Markdown, percent: mean and, of several seeds, spread; by type PointM / mean IoU.

    Args:
        results: Fractions; under ``by_type``, those of each type of sentence.
        rows: Their names, in order; those without results are left out.
        columns: Key of a metric -> title; a row that has no such metric has a dash.
        types: Of sentences.
    """
    titles = ["", "seeds", *columns.values(), *types]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name in rows:
        runs = list(results.get(name, {}).values())
        if not runs:
            continue
        cells = _metric_cells(runs, columns)
        for kind in types:
            of_kind = [run["by_type"][kind] for run in runs]
            both = (
                f"{100 * statistics.mean(each[key] for each in of_kind):.1f}"
                for key in ("peak_in_mask_accuracy", "mean_iou")
            )
            cells.append(" / ".join(both))
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plain_table(results: Results, rows: Iterable[str], columns: Mapping[str, str]) -> str:
    """Return Markdown, percent: mean and, of several seeds, spread of each metric.

    Args:
        results: Fractions.
        rows: Their names, in order; those without results are left out.
        columns: Key of a metric -> title; a row that has no such metric has a dash.
    """
    lines = [f"|  | seeds | {' | '.join(columns.values())} |", "|" + "---|" * (2 + len(columns))]
    for name in rows:
        runs = list(results.get(name, {}).values())
        if runs:
            cells = _metric_cells(runs, columns)
            lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _metric_cells(runs: Sequence[dict[str, Any]], columns: Iterable[str]) -> list[str]:
    """Return mean and spread of each metric; a dash where a run has no such metric."""
    return [
        mean_and_spread([run[key] for run in runs]) if all(key in run for run in runs) else "–"
        for key in columns
    ]


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean in percent and, of several values, the standard deviation."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean
