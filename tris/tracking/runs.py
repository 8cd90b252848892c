"""Runs read back from their folders, and seeds of one setting taken together."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tris.errors import InputError
from tris.tracking.local_log import LOG_NAME, read_curves
from tris.tracking.names import StepMetrics
from tris.tracking.panels import GalleryItem, load_gallery

Curves = dict[str, list[tuple[int, float]]]
_NO_SETTING = ("seed", "tracking")
"""Parts of a config that change no expected result."""


@dataclass(frozen=True)
class Run:
    """What the folder of one training holds.

    Attributes:
        directory: The folder.
        name: Name of the config; the folder's name where there is no ``config.json``.
        seed: None where unknown.
        settings: The config, flat (``optim.lr``), without seed and dashboards.
        metrics: ``metrics.json``; empty where nothing was evaluated yet.
        curves: Per job, per key, (step, value); fractions.
        gallery: Examples.
    """

    directory: Path
    name: str
    seed: int | None
    settings: dict[str, Any]
    metrics: StepMetrics
    curves: dict[str, Curves]
    gallery: list[GalleryItem]


class Group(NamedTuple):
    """Runs that differ in their seed alone; a single run otherwise.

    Attributes:
        title: Name of the config, with the folder where several groups share the name.
        runs: At least one.
    """

    title: str
    runs: list[Run]


class Summary(NamedTuple):
    """A figure over the runs of a group.

    Attributes:
        mean: Fraction.
        spread: Sample standard deviation over seeds; None for a single run.
    """

    mean: float
    spread: float | None


def read_run(directory: Path) -> Run:
    """Return what there is; every part may be missing, but not all.

    Raises:
        InputError: If the folder is no run, or a file in it is damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory} is no folder; give the folder of a run (RUN of make).")
    metrics = _read_object(directory / "metrics.json")
    config = _read_object(directory / "config.json")
    logs = [*directory.glob(f"*/{LOG_NAME}"), *directory.glob(f"rounds/*/*/{LOG_NAME}")]
    curves = {str(path.parent.relative_to(directory)): read_curves(path) for path in logs}
    gallery = load_gallery(directory / "gallery")
    if not (metrics or gallery or any(curves.values())):
        raise InputError(
            f"{directory} is no run: it has no metrics.json, no gallery/ and no */{LOG_NAME}; give "
            f"the folder that a training wrote (RUN of make)."
        )
    _check_metrics(metrics, directory / "metrics.json")
    return Run(
        directory=directory,
        name=str(config.get("name", directory.resolve().name)),
        seed=_find_seed(config),
        settings=_flatten({key: config[key] for key in config if key not in _NO_SETTING}),
        metrics=metrics,
        curves={job: curve for job, curve in curves.items() if curve},
        gallery=gallery,
    )


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Put runs together that have one name and one setting and different, known seeds."""
    same: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([run.name, run.settings], sort_keys=True, default=str)
        same.setdefault(key, []).append(run)
    parts: list[list[Run]] = []
    for members in same.values():
        parts.extend([members] if _are_seeds_apart(members) else [[run] for run in members])
    names = [part[0].name for part in parts]
    return [
        Group(part[0].name if names.count(part[0].name) == 1 else _long_title(part), part)
        for part in parts
    ]


def summarise(runs: Sequence[Run], step: str, split: str) -> dict[str, Summary]:
    """Return each metric over the runs that have it; ``type/metric`` for those by type."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for key, value in flat_metrics(run.metrics.get(step, {}).get(split, {})).items():
            values.setdefault(key, []).append(value)
    return {key: _summary(numbers) for key, numbers in values.items()}


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return one level: ``mean_iou``, ``attribute/mean_iou``; anything but numbers is left out."""
    by_type: Mapping[str, Mapping[str, Any]] = metrics.get("by_type", {})
    pairs = list(metrics.items())
    for kind, values in by_type.items():
        pairs.extend((f"{kind}/{name}", value) for name, value in values.items())
    return {
        name: float(value)
        for name, value in pairs
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def differing_settings(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Return the settings in which groups differ: name -> one value per group."""
    settings = [group.runs[0].settings for group in groups]
    names = dict.fromkeys(name for values in settings for name in values)
    rows = {name: [str(values.get(name, "–")) for values in settings] for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def _summary(numbers: Sequence[float]) -> Summary:
    spread = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Summary(statistics.fmean(numbers), spread)


def _are_seeds_apart(runs: Sequence[Run]) -> bool:
    seeds = [run.seed for run in runs]
    return None not in seeds and len(set(seeds)) == len(seeds)


def _long_title(runs: Sequence[Run]) -> str:
    folders = [run.directory.resolve().name for run in runs]
    return f"{runs[0].name} ({folders[0]}{' …' if len(folders) > 1 else ''})"


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); evaluate the run again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, but a JSON object is wanted.")
    return content


def _check_metrics(metrics: Mapping[str, Any], path: Path) -> None:
    for step, splits in metrics.items():
        is_sound = isinstance(splits, dict) and all(
            isinstance(one, dict) for one in splits.values()
        )
        if not is_sound:
            raise InputError(
                f"{path}: {step!r} is not of the form {{split: {{metric: value}}}}; evaluate the "
                f"run again."
            )


def _find_seed(config: Mapping[str, Any]) -> int | None:
    seed = config.get("seed")
    return seed if isinstance(seed, int) else None


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
