"""What made a label store: settings that must agree, and facts that are only recorded."""

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import dacite
import safetensors
import safetensors.torch
from torch import Tensor

from tris.errors import InputError
from tris.files import replace_file
from tris.left_out import digest_of_state

Kind = TypeVar("Kind")

RECORDED_PACKAGES = (
    "tris",
    "torch",
    "open_clip_torch",
    "pydensecrf2",
    "numpy",
    "opencv-python-headless",
)


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """Everything that decides what the labels are; another value means other labels.

    Attributes:
        config: Nested settings: how maps are chosen, the label rule, which form of the sentences
            is read; the networks' own, such as their input size, are not among them.
        weights: `digest_of_weights` per network ("response" and "judge", or "segmenter").
        data: Digest or fingerprint per data set that is labelled.
    """

    config: dict[str, Any]
    weights: dict[str, str]
    data: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Written when a store is complete.

    Attributes:
        settings: What the labels depend on.
        num_records: Referents in the store.
        counts: Of records by degeneracy ("sound", "empty", "whole"), and "dropped".
        software: Versions at the time of writing; not compared.
    """

    settings: LabelSettings
    num_records: int
    counts: dict[str, int]
    software: dict[str, str]


def list_differences(found: LabelSettings, wanted: LabelSettings) -> list[str]:
    """Return one ``field: found, wanted`` per leaf that differs; empty where they agree."""
    left, right = _flatten(to_json(found)), _flatten(to_json(wanted))
    return [
        f"{name}: {left.get(name, 'absent')}, not {right.get(name, 'absent')}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name, _ABSENT) != right.get(name, _ABSENT)
    ]


def digest_of_weights(source: Path | Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights: of a model directory, a safetensors file, or a state dict.

    The digest is that of names, types, shapes and values, so a network and the file that it was
    saved to have the same.

    Raises:
        InputError: If there is no such file or it is no safetensors file.
    """
    state = _read_state(source) if isinstance(source, Path) else source
    return digest_of_state(state)


def software_versions() -> dict[str, str]:
    """Return the versions of what labels depend on; packages that are not there are left out."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def to_json(value: LabelSettings | Manifest) -> dict[str, Any]:
    """Return a dataclass as JSON would give it back (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(value)))
    return plain


def write_json(path: Path, value: LabelSettings | Manifest) -> None:
    """Write a dataclass; a reader sees the old file or the new one, whole."""
    replace_file(path, json.dumps(to_json(value), indent=2) + "\n")


def read_settings(path: Path) -> LabelSettings:
    """Read what `write_json` wrote of `LabelSettings`.

    Raises:
        InputError: If the file is damaged.
    """
    return _read(path, LabelSettings)


def read_manifest(path: Path) -> Manifest:
    """Read what `write_json` wrote of a `Manifest`.

    Raises:
        InputError: If the file is damaged.
    """
    return _read(path, Manifest)


_ABSENT = object()


def _flatten(value: object, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return dacite.from_dict(kind, json.loads(path.read_text()), dacite.Config(strict=True))
    except (json.JSONDecodeError, dacite.DaciteError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); delete the folder and make the labels again."
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"There are no weights at {path}; name a model directory or its weights.")
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise InputError(f"{file} is no sound safetensors file ({error}).") from error
    return state
