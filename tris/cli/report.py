"""`tris report RUN [RUN ...]`: a page that compares trainings, and the final table as text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tris.errors import InputError, exits_cleanly
from tris.tracking.report import write_report
from tris.tracking.runs import group_runs, read_run
from tris.tracking.tables import final_table


@dataclass(frozen=True)
class ReportArguments:
    """Compare trainings on a static HTML page and print their final tables.

    Runs with one config and different seeds are taken together: mean and standard deviation.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of trainings (RUN of make)."""
    out: Path | None = None
    """Folder of the page; by default RUN/report of the first run."""
    markdown: bool = False
    """Print the tables as Markdown."""
    gallery: int = 24
    """Most sentences in the gallery."""


@exits_cleanly
def main(arguments: list[str]) -> None:
    """Run `tris report`.

    Args:
        arguments: The command line after ``report``.
    """
    options = tyro.cli(ReportArguments, args=arguments, prog="tris report")
    if not options.runs:
        raise InputError("tris report needs the folder of at least one run (RUN of make).")
    if options.gallery < 0:
        raise InputError(f"--gallery {options.gallery} cannot be; give 0 or more sentences.")
    output = options.out or options.runs[0] / "report"
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file, but --out wants a folder.")
    runs = [read_run(directory) for directory in options.runs]
    page = write_report(runs, output, most_sentences=options.gallery)
    groups = group_runs(runs)
    for group in groups:
        if len(groups) > 1:
            print(f"\n{'## ' if options.markdown else ''}{group.title}\n")
        print(final_table(group.runs, markdown=options.markdown), end="")
    print(f"\nReport: {page}")
