"""The final table as plain text and as Markdown: baselines, every step, the ceiling."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tris.tracking.names import (
    GENERALIZED_METRICS,
    METRICS,
    STEPS,
    StepMetrics,
    percent,
    step_title,
)
from tris.tracking.runs import Run, Summary, summarise

MAIN_METRICS = ("peak_in_mask_accuracy", "mean_iou", "overall_iou", "precision_at_50")
TYPE_METRICS = ("peak_in_mask_accuracy", "mean_iou")
MAX_WIDTH = 110
NOTHING = "–"


class Table(NamedTuple):
    """One table: a title, column titles (the first over the row titles) and rows of text."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def final_table(metrics: StepMetrics | Sequence[Run], *, markdown: bool = False) -> str:
    """Return the table that a training prints at its end, one for each split; percentages.

    Args:
        metrics: Content of ``metrics.json``, or the runs of one setting with several seeds: then
            cells are mean ± sample standard deviation.
        markdown: Markdown instead of aligned text.

    Returns:
        Text of at most 110 columns that ends in a newline; columns that do not fit go into a
        second table. Splits in which sentences mean several objects or none come last.
    """
    runs = list(metrics) if isinstance(metrics, Sequence) else [_as_run(metrics)]
    write = _markdown if markdown else _plain
    texts: list[str] = []
    for split in splits_of(runs):
        texts.extend(write(table) for table in final_tables(runs, split))
        share = share_of_ceiling(runs, split)
        if share is not None:
            texts.append(f"The segmenter reaches {percent(share):.1f} % of the ceiling's mIoU.\n")
    for split in generalized_splits_of(runs):
        texts.extend(write(table) for table in generalized_tables(runs, split))
    return "\n".join(texts) if texts else "Nothing has been evaluated yet.\n"


def final_tables(runs: Sequence[Run], split: str) -> list[Table]:
    """Return the table of one split, in two parts if it would be wider than 110 columns."""
    steps = steps_of(runs, split)
    cells = {step: summarise(runs, step, split) for step in steps}
    types = types_of(runs, split)
    title = _title(runs, split)
    main_columns = [METRICS[name] for name in MAIN_METRICS]
    main = [[step_title(step), *_main_cells(cells[step])] for step in steps]
    by_type = [[step_title(step), *_type_cells(cells[step], types)] for step in steps]
    whole = Table(
        title,
        ["", *main_columns, *types],
        [row + kinds[1:] for row, kinds in zip(main, by_type, strict=True)],
    )
    if not types:
        return [whole]
    note = "by expression type: PointM / mIoU"
    if _width(whole) <= MAX_WIDTH:
        return [whole._replace(title=f"{title}; {note}")]
    return [
        Table(title, ["", *main_columns], main),
        Table(f"{title}; {note}", ["", *types], by_type),
    ]


def generalized_tables(runs: Sequence[Run], split: str) -> list[Table]:
    """Return the table of a split of `generalized_splits_of`, in parts of at most 110 columns."""
    rows = []
    for step in steps_of(runs, split):
        figures = summarise(runs, step, split)
        rows.append([step_title(step), *(cell(figures.get(name)) for name in GENERALIZED_METRICS)])
    return _cut(Table(_title(runs, split), ["", *GENERALIZED_METRICS.values()], rows))


def splits_of(runs: Sequence[Run]) -> list[str]:
    """Return the splits with ordinary figures that any run was evaluated on; val first."""
    generalized = generalized_splits_of(runs)
    found = [
        split
        for run in runs
        for splits in run.metrics.values()
        for split in splits
        if split not in generalized
    ]
    return sorted(dict.fromkeys(found), key=lambda split: split != "val")


def generalized_splits_of(runs: Sequence[Run]) -> list[str]:
    """Return the splits in which sentences mean several objects or none, in the file's order."""
    found = [
        split
        for run in runs
        for splits in run.metrics.values()
        for split, figures in splits.items()
        if "generalized_mean_iou" in figures
    ]
    return list(dict.fromkeys(found))


def steps_of(runs: Sequence[Run], split: str) -> list[str]:
    """Return the steps that have figures of this split, in pipeline order, unknown ones last."""
    found = [step for run in runs for step, splits in run.metrics.items() if split in splits]
    order = list(STEPS)
    return sorted(
        dict.fromkeys(found), key=lambda step: order.index(step) if step in STEPS else len(order)
    )


def types_of(runs: Sequence[Run], split: str) -> list[str]:
    """Return the expression types with figures of this split."""
    by_type = (
        splits.get(split, {}).get("by_type", {}) for run in runs for splits in run.metrics.values()
    )
    return list(dict.fromkeys(kind for types in by_type for kind in types))


def share_of_ceiling(runs: Sequence[Run], split: str) -> float | None:
    """Return the segmenter's mean IoU over the ceiling's; None if one is unknown."""
    reached, ceiling = (
        summarise(runs, step, split).get("mean_iou") for step in ("segmenter", "ceiling")
    )
    if reached is None or ceiling is None or ceiling.mean == 0:
        return None
    return reached.mean / ceiling.mean


def cell(summary: Summary | None) -> str:
    """Return a percentage with one decimal, with its spread where there is one."""
    if summary is None:
        return NOTHING
    spread = "" if summary.spread is None else f"±{percent(summary.spread):.1f}"
    return f"{percent(summary.mean):.1f}{spread}"


def _main_cells(figures: dict[str, Summary]) -> list[str]:
    return [cell(figures.get(name)) for name in MAIN_METRICS]


def _type_cells(figures: dict[str, Summary], types: Sequence[str]) -> list[str]:
    return [
        "/".join(cell(figures.get(f"{kind}/{name}")) for name in TYPE_METRICS) for kind in types
    ]


def _title(runs: Sequence[Run], split: str) -> str:
    spread = f"; mean ± standard deviation of {len(runs)} seeds" if len(runs) > 1 else ""
    return f"{split}, %{spread}"


def _widths(table: Table) -> list[int]:
    return [
        max(len(row[column]) for row in [table.columns, *table.rows])
        for column in range(len(table.columns))
    ]


def _width(table: Table) -> int:
    widths = _widths(table)
    return sum(widths) + 2 * (len(widths) - 1)


def _cut(table: Table) -> list[Table]:
    """Return the table in parts of at most 110 columns, each with the row titles."""
    count = len(table.columns)
    if _width(table) <= MAX_WIDTH or count == 2:
        return [table]
    middle = (count + 1) // 2
    halves = [0, *range(1, middle)], [0, *range(middle, count)]
    return [part for half in halves for part in _cut(_choose(table, half))]


def _choose(table: Table, columns: Sequence[int]) -> Table:
    titles, *rows = [[row[one] for one in columns] for row in [table.columns, *table.rows]]
    return Table(table.title, titles, rows)


def _plain(table: Table) -> str:
    widths = _widths(table)
    lines = [table.title]
    for row in [table.columns, *table.rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _markdown(table: Table) -> str:
    lines = [f"**{table.title}**", ""]
    lines.append("| " + " | ".join(table.columns) + " |")
    lines.append("|---|" + "---:|" * (len(table.columns) - 1))
    lines += ["| " + " | ".join([row[0].strip(), *row[1:]]) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _as_run(metrics: StepMetrics) -> Run:
    return Run(Path(), "", None, {}, metrics, {}, [])
