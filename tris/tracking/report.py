"""The static HTML report: figures, curves and a gallery of one or several runs.

One page and one folder of pictures; nothing is loaded from the network and no script runs.
"""

import importlib.resources
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

import tris
from tris.tracking.charts import Series, line_chart, mean_series
from tris.tracking.names import JOBS, json_metric, percent
from tris.tracking.report_gallery import Card, make_cards
from tris.tracking.report_tables import NUM_COLOURS, Headline, SplitTable, headlines, split_table
from tris.tracking.runs import Curves, Group, Run, differing_settings, group_runs
from tris.tracking.tables import NOTHING, generalized_splits_of, splits_of

PAGE_NAME = "index.html"
PICTURES_NAME = "index_files"
CHART_KEYS = {
    "val/peak_in_mask_accuracy": "PointM, validation (%)",
    "val/mean_iou": "mIoU, validation (%)",
    "val/generalized_mean_iou": "gIoU, validation (%)",
    "val/no_target_accuracy": "N-acc, validation (%)",
    "val/target_accuracy": "T-acc, validation (%)",
    "train/loss": "Training loss",
}


class Chart(NamedTuple):
    """A drawn chart."""

    title: str
    svg: Markup


class Job(NamedTuple):
    """The charts of one stage."""

    title: str
    charts: list[Chart]


@dataclass(frozen=True)
class Page:
    """Everything that the template shows."""

    title: str
    subtitle: str
    headlines: list[Headline]
    tables: list[SplitTable]
    jobs: list[Job]
    cards: list[Card]
    legend: list[str]
    settings: dict[str, list[str]]
    runs: list[dict[str, str]]
    is_comparison: bool
    is_wide: bool
    has_spread: bool
    version: str


def write_report(runs: Sequence[Run], output: Path, *, most_sentences: int = 24) -> Path:
    """Write ``index.html`` and ``index_files/`` and return the page's path.

    Other files in ``output`` stay; an older report is replaced only when the new one is whole.

    Args:
        runs: At least one; seeds of one setting are averaged.
        output: Folder of the page.
        most_sentences: Size of the gallery.
    """
    output.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".report-", dir=output))
    try:
        pictures = scratch / PICTURES_NAME
        pictures.mkdir()
        page = make_page(runs, pictures, most_sentences=most_sentences)
        (scratch / PAGE_NAME).write_text(render(page), encoding="utf-8")
        shutil.rmtree(output / PICTURES_NAME, ignore_errors=True)
        pictures.replace(output / PICTURES_NAME)
        (scratch / PAGE_NAME).replace(output / PAGE_NAME)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return output / PAGE_NAME


def render(page: Page) -> str:
    """Return the HTML of a page."""
    files = importlib.resources.files("tris.tracking")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((files / "report.html").read_text("utf-8"))
    css = Markup((files / "report.css").read_text("utf-8"))
    return template.render(page=page, css=css)


def make_page(runs: Sequence[Run], pictures: Path, *, most_sentences: int) -> Page:
    """Collect what the page shows and draw its pictures into ``pictures``."""
    groups = group_runs(runs)
    ordered = [run for group in groups for run in group.runs]
    names = list(dict.fromkeys(run.name for run in ordered))
    splits = [*splits_of(ordered), *generalized_splits_of(ordered)]
    return Page(
        title=" · ".join(names[:3]) + (" …" if len(names) > 3 else ""),
        subtitle=_subtitle(len(runs), len(groups)),
        headlines=headlines(groups),
        tables=[split_table(groups, split) for split in splits],
        jobs=_jobs(groups),
        cards=make_cards(ordered, _run_titles(groups), pictures, most=most_sentences),
        legend=[group.title for group in groups],
        settings=differing_settings(groups) if len(groups) > 1 else {},
        runs=[_describe(run) for run in ordered],
        is_comparison=len(groups) > 1,
        is_wide=len(runs) == 1,
        has_spread=any(len(group.runs) > 1 for group in groups),
        version=tris.__version__,
    )


def _subtitle(num_runs: int, num_groups: int) -> str:
    if num_runs == 1:
        return "One run."
    if num_groups == 1:
        return f"{num_runs} runs that differ in their seed: means and spreads."
    return f"{num_runs} runs in {num_groups} settings."


def _run_titles(groups: Sequence[Group]) -> list[str]:
    """Name every run: the seed within a group, the group where it has one run."""
    titles = []
    for group in groups:
        for run in group.runs:
            seed = "" if len(group.runs) == 1 else f"seed {run.seed}"
            prefix = group.title if len(groups) > 1 or not seed else ""
            titles.append(", ".join(part for part in (prefix, seed) if part))
    return titles


def _describe(run: Run) -> dict[str, str]:
    seed = NOTHING if run.seed is None else str(run.seed)
    return {"name": run.name, "seed": seed, "folder": str(run.directory)}


def _jobs(groups: Sequence[Group]) -> list[Job]:
    jobs = []
    runs = [run for group in groups for run in group.runs]
    titles = JOBS | {name: name for run in runs for name in run.curves if name not in JOBS}
    for name, title in titles.items():
        logged = [run.curves.get(name, {}) for run in runs]
        charts = [_chart(groups, name, key) for key in _chart_keys(logged)]
        if charts:
            jobs.append(Job(title, charts))
    return jobs


def _chart_keys(logged: Sequence[Curves]) -> list[str]:
    """Metrics first, then the loss, then what else was measured on the validation split."""
    found = dict.fromkeys(
        key
        for curves in logged
        for key, points in curves.items()
        if any(math.isfinite(value) for _, value in points)
    )
    others = [
        key
        for key in found
        if key.startswith("val/") and key.count("/") == 1 and json_metric(key) is None
    ]
    return [key for key in (*CHART_KEYS, *others) if key in found]


def _chart(groups: Sequence[Group], job: str, key: str) -> Chart:
    factor = percent(1.0) if json_metric(key) else 1.0
    series = []
    for number, group in enumerate(groups):
        lines = [run.curves.get(job, {}).get(key, []) for run in group.runs]
        lines = [[(step, factor * value) for step, value in line] for line in lines if line]
        is_thin = len(lines) > 1
        colour = number % NUM_COLOURS
        series += [Series(group.title, line, colour, is_thin) for line in lines]
        if is_thin:
            series.append(Series(f"{group.title}, mean", mean_series(lines), colour))
    title = CHART_KEYS.get(key, key)
    return Chart(title, line_chart(title, series))
