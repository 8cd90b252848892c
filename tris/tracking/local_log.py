"""The log that every run keeps on disk, whatever W&B does: JSON lines, append-only."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

from tris.files import replace_file
from tris.tracking.names import to_json_key

LOG_NAME = "metrics.jsonl"


class LogLine(NamedTuple):
    """One logged value.

    Attributes:
        step: Optimiser step that the value belongs to.
        key: ``split/metric``; metrics are spelled as in ``metrics.json``.
        value: Fractions are fractions here; only dashboards multiply by 100.
        time: Seconds since 1970.
    """

    step: int
    key: str
    value: float
    time: float


class LocalLog:
    """Appends values to ``metrics.jsonl``; every call is on disk when it returns."""

    def __init__(self, path: Path, *, resumed_step: int | None = None) -> None:
        """Open the log.

        Args:
            path: The file; its folder is made.
            resumed_step: None starts the log anew. A resumed run gives the step of its
                checkpoint: lines after it are dropped, for they will be written again.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [] if resumed_step is None else _lines_up_to(path, resumed_step)
        replace_file(path, "".join(_to_text(line) for line in kept))
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def append(self, values: Mapping[str, float | int], step: int) -> None:
        """Write one line per value."""
        now = round(time.time(), 3)
        lines = [
            LogLine(step, to_json_key(key), float(value), now) for key, value in values.items()
        ]
        self._file.write("".join(map(_to_text, lines)))
        self._file.flush()

    def close(self) -> None:
        """Close the file; harmless when called twice."""
        self._file.close()


def read_log(path: Path) -> list[LogLine]:
    """Return the lines of a log in the order written; a torn last line is left out.

    A damaged line anywhere else ends the reading too: what follows it cannot be trusted.
    """
    lines: list[LogLine] = []
    if not path.is_file():
        return lines
    for text in path.read_bytes().splitlines(keepends=True):
        line = _from_text(text)
        if line is None:
            break
        lines.append(line)
    return lines


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) by key, sorted by step; of two values for one step the later counts."""
    curves: dict[str, dict[int, float]] = {}
    for line in read_log(path):
        curves.setdefault(line.key, {})[line.step] = line.value
    return {key: sorted(points.items()) for key, points in curves.items()}


def _lines_up_to(path: Path, step: int) -> list[LogLine]:
    return [line for line in read_log(path) if line.step <= step]


def _to_text(line: LogLine) -> str:
    return json.dumps(line._asdict()) + "\n"


def _from_text(text: bytes) -> LogLine | None:
    if not text.endswith(b"\n"):
        return None
    try:
        fields = json.loads(text)
        return LogLine(
            int(fields["step"]), str(fields["key"]), float(fields["value"]), float(fields["time"])
        )
    except (ValueError, KeyError, TypeError):
        return None
