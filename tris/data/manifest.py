"""The manifest of an index: what it holds, where it came from, what was left out."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dacite

from tris.errors import InputError

MANIFEST_NAME = "index.json"
FORMAT = "tris-index"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SplitFacts:
    """What one split holds.

    Attributes:
        images: Photographs that a sentence is about.
        referents: Rows.
        expressions: Sentences.
        multi_target: Sentences that refer to two or more objects.
        no_target: Sentences that refer to nothing in the image.
        objects: Different annotations that are referred to.
        groups: Image groups (group-wise sets).
        masks: Rows that carry a mask.
        is_training: Whether the data set trains on this split.
        masks_left_out: Whether masks and boxes were left out on purpose (``--no-masks``).
    """

    images: int
    referents: int
    expressions: int
    multi_target: int
    no_target: int
    objects: int
    groups: int
    masks: int
    is_training: bool
    masks_left_out: bool


@dataclass(frozen=True)
class Manifest:
    """Everything ``index.json`` says.

    Attributes:
        dataset: Name, as given to ``tris prepare``.
        split_by: Who made the splits (unc, google, umd, ...); empty where there is one way only.
        images: The image folder; relative paths start at the index.
        splits: By name.
        sources: Official files that were read, by path.
        source_digests: SHA-256 of those that are files, by path.
        skipped_images: Photographs that cannot be used, and why, by file name.
        left_out: Referents and sentences that are not in the index, one line each.
        warnings: What a person should know before trusting figures from this index.
        overlaps: Photographs in common with another index (COCO's ids, else file names), by what
            was compared.
        options: Settings that change what is written (``overlapping_polygons``, ``seed``, ...).
        format: Says that this is such a manifest.
        format_version: Of the Arrow columns.
    """

    dataset: str
    split_by: str
    images: str
    splits: dict[str, SplitFacts]
    sources: list[str] = field(default_factory=list)
    source_digests: dict[str, str] = field(default_factory=dict)
    skipped_images: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    overlaps: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    @property
    def contents(self) -> str | None:
        """A name for what the sources held, wherever they lie; None where that is not known."""
        if not self.source_digests:
            return None
        together = " ".join(sorted(self.source_digests.values()))
        return hashlib.sha256(together.encode()).hexdigest()[:12]


def digest_sources(sources: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the sources that are files, by path."""
    digests = {}
    for path in sources:
        if not Path(path).is_file():
            continue
        with Path(path).open("rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Write ``index.json``."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False)
    (directory / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Read ``index.json``.

    Raises:
        InputError: If there is none, or it is damaged, foreign or of another version.
    """
    path = directory / MANIFEST_NAME
    if not directory.is_dir():
        raise InputError(f"There is no index {directory}: make one with `tris prepare`.")
    if not path.is_file():
        raise InputError(f"{directory} is no index (it has no {MANIFEST_NAME}): `tris prepare` it.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): prepare the data set again.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{path} does not describe an index of tris: prepare the data set again.")
    if values.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {values.get('format_version')}, this tris reads "
            f"{FORMAT_VERSION}: prepare the data set again."
        )
    try:
        return dacite.from_dict(Manifest, values, dacite.Config(strict=True))
    except dacite.DaciteError as error:
        raise InputError(f"{path} is damaged ({error}): prepare the data set again.") from error
