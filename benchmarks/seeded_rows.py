"""What the ablations share: rows times seeds, each trained in a folder of its own on a run's work.

Rows that exist are kept, so a further seed, or a command that was stopped, costs only what is new.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
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
) -> Results:
    """Return what there is, with ``--table``, or measure what is missing first (`fill_rows`).

    Raises:
        SystemExit: If there is nothing to print, or a row was trained with other settings.
    """
    out: Path = arguments.out
    if not arguments.table:
        return fill_rows(rows, arguments.runs, out, measure, settings=settings, jobs=arguments.jobs)
    if not out.is_file():
        raise SystemExit(f"{out} is not there yet: give --runs instead of --table.")
    results: Results = json.loads(out.read_text())
    return results


def fill_rows(
    rows: Iterable[str],
    runs: Sequence[Path],
    out: Path,
    measure: Callable[[str, Path], dict[str, Any]],
    *,
    settings: Callable[[str], dict[str, Any]],
    jobs: int,
) -> Results:
    """Measure what ``out`` lacks, several at a time; each row is written as soon as it is there.

    Args:
        rows: Their names.
        runs: One per seed; the folder's name is the seed's.
        out: JSON of what is known.
        measure: Trains and scores a row on a run.
        settings: What a row is trained with, kept beside its figures.
        jobs: Rows at a time.

    Raises:
        SystemExit: If a row that is known was trained with other settings.
    """
    results: Results = json.loads(out.read_text()) if out.is_file() else {}
    names = list(rows)
    for name in names:
        for seed, known in results.get(name, {}).items():
            if known["settings"] != settings(name):
                raise SystemExit(
                    f"{out}: {name!r} of {seed} was trained with other settings: take it out, or "
                    "give another --out."
                )
    todo = [(name, run) for run in runs for name in names if run.name not in results.get(name, {})]
    with ThreadPoolExecutor(jobs) as pool:
        scored = pool.map(lambda job: measure(*job), todo)
        for (name, run), metrics in zip(todo, scored, strict=True):
            results.setdefault(name, {})[run.name] = {"settings": settings(name)} | metrics
            out.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{run.name}: {name}: {metrics}", flush=True)
    return results


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
    stage: str, *, config: str, segmenter: str, folder: Path, settings: Sequence[str]
) -> None:
    """Run a stage on one thread; its output goes beside the run."""
    command = [
        sys.executable, f"stages/{stage}.py", "--config", f"configs/{config}.py",
        "--segmenter", f"configs/segmenter/{segmenter}_{config}.py", "--run", str(folder),
        *settings,
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
        columns: Key of a metric -> title.
        types: Of sentences.
    """
    titles = ["", "seeds", *columns.values(), *types]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for name in rows:
        runs = list(results.get(name, {}).values())
        if not runs:
            continue
        cells = [mean_and_spread([run[key] for run in runs]) for key in columns]
        for kind in types:
            of_kind = [run["by_type"][kind] for run in runs]
            both = (
                f"{100 * statistics.mean(each[key] for each in of_kind):.1f}"
                for key in ("peak_in_mask_accuracy", "mean_iou")
            )
            cells.append(" / ".join(both))
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean in percent and, of several values, the standard deviation."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean
