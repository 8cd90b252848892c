"""Which settings a training's weights depend on, and whether two trainings share them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tris.errors import InputError
from tris.files import replace_file

_FINISHED = "finished.json"
_MODEL_FILES = ("config.json", "model.safetensors")
_FACTS = ("sources", "judge")
"""What is found out about the data and the networks that a training starts from."""
_BYSTANDERS = {
    "training": {
        "num_workers", "checkpoint_minutes", "checkpoint_steps", "keep_checkpoints", "log_every",
    },
    "data": {"evaluation_splits", "cache_images"},
}  # fmt: skip


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those that no weight depends on.

    Left out are, of every ``training``, the number of loader workers and how often it logs and
    saves; of ``data``, what is only scored at the end. How often it looks at the validation split
    matters only where that chooses the weights.
    """
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        if not isinstance(value, Mapping):
            kept[name] = value
            continue
        bystanders = set(_BYSTANDERS.get(name, ()))
        if name == "training" and value.get("select") == "last":
            bystanders.add("evaluate_every")
        kept[name] = decisive({key: each for key, each in value.items() if key not in bystanders})
    return kept


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], *, made: Path) -> None:
    """Compare what a checkpoint or a finished training says of itself with what is asked for.

    A setting that one of them does not know counts as None, which is how settings that came later
    say that they are off. Facts (`_FACTS`) are compared where both know them.

    Args:
        found: Its settings.
        wanted: The experiment's.
        made: What is to be removed to start anew.

    Raises:
        InputError: If they differ; names the first few differences.
    """
    left, right = _flatten(decisive(found)), _flatten(decisive(wanted))
    different = [
        f"{name}: {left.get(name, 'absent')} there, {right.get(name, 'absent')} now"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
        and not (name in _FACTS and None in (left.get(name), right.get(name)))
    ]
    if different:
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise InputError(
            f"{made} was trained with other settings ({'; '.join(different[:5])}{more}): choose "
            "another RUN, restore the settings, or remove that folder to train anew."
        )


def is_finished(directory: Path, fingerprint: Mapping[str, Any], *, model: Path) -> bool:
    """Say whether the training of ``RUN/<job>`` was finished before.

    Args:
        directory: ``RUN/<job>``.
        fingerprint: The experiment's settings.
        model: The model directory that it delivered.

    Raises:
        InputError: If it was, with other settings, or what it delivered is not there any more.
    """
    path = directory / _FINISHED
    if not path.is_file():
        return False
    check_same(json.loads(path.read_text())["fingerprint"], fingerprint, made=directory)
    missing = [name for name in _MODEL_FILES if not (model / name).is_file()]
    if missing:
        raise InputError(
            f"The training in {directory} is finished, but {model} lacks {' and '.join(missing)}: "
            f"put back what was there, or remove {directory} to train anew."
        )
    return True


def read_finished(directory: Path) -> dict[str, Any] | None:
    """Return the settings of a finished training; None if there is none."""
    path = directory / _FINISHED
    if not path.is_file():
        return None
    fingerprint: dict[str, Any] = json.loads(path.read_text())["fingerprint"]
    return fingerprint


def write_finished(
    directory: Path, fingerprint: Mapping[str, Any], best: Mapping[str, float]
) -> None:
    """Note that the training's weights are written."""
    directory.mkdir(parents=True, exist_ok=True)
    said = {"fingerprint": dict(fingerprint), "best": dict(best)}
    replace_file(directory / _FINISHED, json.dumps(said, indent=2))


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
