"""Predictions that anyone made: JSON Lines, one object per expression, read one at a time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tris.data.masks import check_rle
from tris.errors import InputError, shorten
from tris.metrics.rle import Rle


@dataclass(frozen=True)
class Prediction:
    """One line of a predictions file.

    Attributes:
        expression_id: Official ``sent_id``.
        referent_id: Official ``ref_id``; None where the file does not say.
        mask: Original pixels; None = nothing found.
        no_target: The prediction's own flag; "mask is None" where the file does not say.
        point: Column and row of the response's peak, original pixels.
        saliency: The map itself, for Co-SOD metrics; see `encode_saliency`.
    """

    expression_id: int
    referent_id: int | None
    mask: Rle | None
    no_target: bool
    point: tuple[float, float] | None
    saliency: str | None = None


def read_predictions(path: Path) -> Iterator[tuple[int, Prediction]]:
    """Yield line numbers (from 1) and predictions; blank lines are passed over.

    Raises:
        InputError: If the file is missing or a line cannot be read; it names the line.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _read_line(line, at=f"{path}, line {number}")
    except FileNotFoundError as error:
        raise InputError(f"{path} is not there: give a predictions file (JSON Lines).") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder: give a predictions file (JSON Lines).") from error


_GZIP = b"\x1f\x8b"


def _read_line(line: bytes, *, at: str) -> Prediction:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        is_packed = line.startswith(_GZIP)
        problem = "packed with gzip; unpack it first" if is_packed else f"not JSON ({error})"
        raise InputError(f"{at}: {problem}; write one object per line.") from error
    if not isinstance(fields, dict):
        raise InputError(f"{at}: an object was wanted, not {shorten(fields)}.")
    try:
        return parse_prediction(fields)
    except InputError as error:
        raise InputError(f"{at}: {error}") from error


def parse_prediction(fields: dict[str, Any]) -> Prediction:
    """Return the prediction that a JSON object describes.

    Raises:
        InputError: If a field is missing or of the wrong kind.
    """
    if "mask" not in fields:
        raise InputError('there is no "mask"; write null where nothing was found.')
    mask = None if fields["mask"] is None else check_rle(fields["mask"])
    no_target = fields.get("no_target", mask is None)
    if not isinstance(no_target, bool):
        raise InputError(f'"no_target" must be true or false, not {shorten(no_target)}.')
    referent_id = fields.get("ref_id")
    return Prediction(
        expression_id=_whole_number("expression_id", fields.get("expression_id")),
        referent_id=None if referent_id is None else _whole_number("ref_id", referent_id),
        mask=mask,
        no_target=no_target,
        point=_point(fields.get("point")),
        saliency=_saliency(fields.get("saliency")),
    )


def _saliency(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InputError(f'"saliency" must be a PNG file in base64, not {shorten(value)}.')


def _whole_number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise InputError(f'"{name}" must be a whole number, not {shorten(value)}.')
    return value


def _point(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    match value:
        case [int() | float() as x, int() | float() as y] if _is_place(x) and _is_place(y):
            return float(x), float(y)
    raise InputError(f'"point" must be [x, y] in original pixels, not {shorten(value)}.')


def _is_place(value: int | float) -> bool:
    """Say whether an image could have this pixel; JSON's integers have no end, and NaN is one."""
    return not isinstance(value, bool) and abs(value) < 1e9
