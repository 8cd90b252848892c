"""Figures of the report: the headline numbers and the table of each split."""

from collections.abc import Sequence
from typing import NamedTuple

from tris.tracking.names import GENERALIZED_METRICS, METRICS, percent, step_title
from tris.tracking.runs import Group, Run, Summary, summarise
from tris.tracking.tables import (
    MAIN_METRICS,
    NOTHING,
    TYPE_METRICS,
    generalized_splits_of,
    share_of_ceiling,
    splits_of,
    steps_of,
    types_of,
)

NUM_COLOURS = 6
NOT_OWN = ("baseline", "ceiling")
"""Kinds of steps that are there for comparison."""


class Column(NamedTuple):
    """A column of the table: its title, the figure it shows, whether a group of columns begins."""

    title: str
    key: str
    starts_group: bool


class Cell(NamedTuple):
    """A figure as text."""

    value: str
    spread: str
    starts_group: bool


class Row(NamedTuple):
    """Figures of one group of runs."""

    title: str
    colour: int
    cells: list[Cell]


class Step(NamedTuple):
    """Rows of one step of the pipeline; ``kind`` chooses the style."""

    title: str
    kind: str
    rows: list[Row]


class SplitTable(NamedTuple):
    """All figures of one split; ``is_generalized`` = its sentences mean several objects or none."""

    split: str
    is_generalized: bool
    metrics: list[str]
    types: list[str]
    columns: list[Column]
    steps: list[Step]


class Figure(NamedTuple):
    """One large number."""

    name: str
    value: str
    spread: str
    note: str


class Headline(NamedTuple):
    """The numbers to see first, of one group of runs."""

    title: str
    figures: list[Figure]


def headlines(groups: Sequence[Group]) -> list[Headline]:
    """Return the large numbers of every group that has some."""
    found = [Headline(group.title, _headline_figures(group.runs)) for group in groups]
    return [one for one in found if one.figures]


def split_table(groups: Sequence[Group], split: str) -> SplitTable:
    """Return the table of one split: a row for each group within each step.

    By type there are figures of ordinary splits alone.
    """
    runs = [run for group in groups for run in group.runs]
    is_generalized = split in generalized_splits_of(runs)
    titles = GENERALIZED_METRICS if is_generalized else METRICS
    types = [] if is_generalized else types_of(runs, split)
    steps = steps_of(runs, split)
    known = {key for step in steps for key in summarise(runs, step, split)}
    metrics = [name for name in titles if name in known or name in MAIN_METRICS]
    columns = [Column(titles[name], name, False) for name in metrics]
    for kind in types:
        columns += [
            Column(METRICS[name], f"{kind}/{name}", number == 0)
            for number, name in enumerate(TYPE_METRICS)
        ]
    rows = [_step(groups, step, split, columns) for step in steps]
    names = [titles[name] for name in metrics]
    return SplitTable(split, is_generalized, names, types, columns, rows)


def _step(groups: Sequence[Group], step: str, split: str, columns: Sequence[Column]) -> Step:
    rows = []
    for number, group in enumerate(groups):
        figures = summarise(group.runs, step, split)
        cells = [_cell(figures.get(column.key), column) for column in columns]
        if figures:
            rows.append(Row(group.title, number % NUM_COLOURS, cells))
    return Step(step_title(step).strip(), _kind(step), rows)


def _kind(step: str) -> str:
    return next((kind for kind in NOT_OWN if step.startswith(kind)), step)


def _cell(summary: Summary | None, column: Column) -> Cell:
    if summary is None:
        return Cell(NOTHING, "", column.starts_group)
    return Cell(f"{percent(summary.mean):.1f}", _spread(summary), column.starts_group)


def _spread(summary: Summary) -> str:
    return "" if summary.spread is None else f"±{percent(summary.spread):.1f}"


def _headline_figures(runs: Sequence[Run]) -> list[Figure]:
    """Return the last step's figures, its labels' and its share of the ceiling."""
    splits = splits_of(runs)
    if not splits:
        return []
    own_steps = [step for step in steps_of(runs, splits[0]) if _kind(step) not in NOT_OWN]
    if not own_steps:
        return []
    last = summarise(runs, own_steps[-1], splits[0])
    note = f"{step_title(own_steps[-1]).strip()}, {splits[0]}"
    figures = [
        Figure(METRICS[name], f"{percent(last[name].mean):.1f}", _spread(last[name]), note)
        for name in ("mean_iou", "peak_in_mask_accuracy")
        if name in last
    ]
    labels = summarise(runs, "labels", splits[0]).get("mean_iou")
    if labels is not None and own_steps[-1] != "labels":
        value = f"{percent(labels.mean):.1f}"
        figures.append(Figure("Label mIoU", value, _spread(labels), f"PRMS + CRF, {splits[0]}"))
    share = share_of_ceiling(runs, splits[0])
    if share is not None:
        value = f"{percent(share):.1f}"
        figures.append(Figure("Of the ceiling", value, "", "mIoU, against training on true masks"))
    return figures
