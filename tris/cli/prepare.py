"""`tris prepare`: official files become one memory-mapped index."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tris.data.manifest import Manifest, read_manifest
from tris.data.masks import Overlap
from tris.data.prepare.assemble import DuplicateIds, Settings, assemble
from tris.data.prepare.coca import read_coca
from tris.data.prepare.custom import read_custom
from tris.data.prepare.d3 import read_d3
from tris.data.prepare.grefcoco import read_grefcoco
from tris.data.prepare.grouped import read_grouped
from tris.data.prepare.mevis import read_mevis
from tris.data.prepare.photographs import Verification
from tris.data.prepare.phrasecut import read_phrasecut
from tris.data.prepare.refer import read_refer
from tris.data.prepare.refzom import read_refzom
from tris.data.prepare.release import Release
from tris.errors import InputError, exits_cleanly

DatasetName = Literal[
    "refcoco",
    "refcoco+",
    "refcocog",
    "refclef",
    "grefcoco",
    "ref-zom",
    "grd",
    "d3",
    "g-refc",
    "g-refc+",
    "g-refcg",
    "phrasecut",
    "coca",
    "cosal2015",
    "cosod3k",
    "mevis",
    "custom",
]


@dataclass(frozen=True)
class PrepareArguments:
    """Make the index of a data set from its official files (see docs/data.md).

    Attributes:
        name: The data set.
        source: Folder of the official annotation files (custom: your .jsonl file).
        images: Folder of the photographs.
        out: The index to make; an older index there is replaced.
        split_by: Who made the splits (refcoco: unc, google; refcocog: umd, google; refclef: unc,
            berkeley).
        split: Which splits to read (phrasecut: test; mevis: valid_u).
        no_masks: Leave masks and boxes out of the training split: text-only training.
        check_overlap: Other indexes: list photographs that one trains on and the other tests on.
        skip_bad_images: Leave out photographs that cannot be used, and list them in the manifest.
        verify_images: quick = headers and end marks; full = decode every photograph (some minutes
            for COCO); none = open nothing, for scoring only.
        overlapping_polygons: union = right; refer-quirk = overlaps become holes, as in REFER's
            readers (not phrasecut, mevis, custom, coca and its kin).
        duplicate_ids: What to do with a ref_id or sent_id that comes twice.
        seed: Of the negatives (g-refc, g-refc+, g-refcg).
        positives_only: Groups without negatives (g-refc, g-refc+, g-refcg).
        quiet: No progress bar.
    """

    name: tyro.conf.Positional[DatasetName]
    source: Path
    images: Path
    out: Path
    split_by: str | None = None
    split: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SPLIT")] = ()
    no_masks: tyro.conf.FlagCreatePairsOff[bool] = False
    check_overlap: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="INDEX")] = ()
    skip_bad_images: tyro.conf.FlagCreatePairsOff[bool] = False
    verify_images: Verification = "quick"
    overlapping_polygons: Overlap = "union"
    duplicate_ids: DuplicateIds = "error"
    seed: int | None = None
    positives_only: tyro.conf.FlagCreatePairsOff[bool] = False
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False


@exits_cleanly
def main(arguments: list[str]) -> None:
    """Run `tris prepare` with command-line arguments."""
    given = [argument for argument in arguments if argument != "--debug"]
    wanted = tyro.cli(PrepareArguments, args=given, prog="tris prepare")
    out = assemble(
        read_release(wanted),
        images=wanted.images,
        out=wanted.out,
        keep_training_masks=not wanted.no_masks,
        settings=Settings(
            skip_bad_images=wanted.skip_bad_images,
            verify_images=wanted.verify_images,
            duplicate_ids=wanted.duplicate_ids,
            check_overlap=wanted.check_overlap,
            is_quiet=wanted.quiet,
        ),
    )
    print(describe(read_manifest(out), out))


def read_release(wanted: PrepareArguments) -> Release:
    """Read the official files of the data set that was asked for.

    Raises:
        InputError: If they cannot be used, or an option has no meaning for this data set.
    """
    family = _FAMILIES[wanted.name]
    for option in ("split_by", "split", "seed", "positives_only", "overlapping_polygons"):
        is_given = getattr(wanted, option) != getattr(PrepareArguments, option)
        if is_given and option not in family.options:
            flag = option.replace("_", "-")
            raise InputError(f"--{flag} has no meaning for {wanted.name}: leave it out.")
    return family.read(wanted)


def describe(manifest: Manifest, out: Path) -> str:
    """Return the table of what an index holds, then its warnings."""
    head = ("split", "images", "referents", "expressions", "multi", "no-target", "masks")
    rows = [
        (
            split,
            f"{facts.images:,}",
            f"{facts.referents:,}",
            f"{facts.expressions:,}",
            f"{facts.multi_target:,}",
            f"{facts.no_target:,}",
            "left out" if facts.masks_left_out else f"{facts.masks:,}",
        )
        for split, facts in manifest.splits.items()
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in (head, *rows)
    ]
    title = f"{manifest.dataset} ({manifest.split_by})" if manifest.split_by else manifest.dataset
    notes = [f"warning: {warning}" for warning in manifest.warnings]
    notes += [f"in {what}: {_some(names)}" for what, names in manifest.overlaps.items()]
    return "\n".join([f"{title} -> {out}", *lines, *notes])


@dataclass(frozen=True)
class _Family:
    """A reader, and the options that have a meaning for it."""

    read: Callable[[PrepareArguments], Release]
    options: tuple[str, ...] = ()


def _refer(wanted: PrepareArguments) -> Release:
    return read_refer(
        dataset=wanted.name,
        source=wanted.source,
        split_by=wanted.split_by,
        overlapping_polygons=wanted.overlapping_polygons,
    )


def _grouped(wanted: PrepareArguments) -> Release:
    return read_grouped(
        dataset=wanted.name,
        source=wanted.source,
        split_by=wanted.split_by,
        seed=wanted.seed or 0,
        with_negatives=not wanted.positives_only,
        overlapping_polygons=wanted.overlapping_polygons,
    )


def _d3(wanted: PrepareArguments) -> Release:
    return read_d3(
        source=wanted.source,
        dataset="d3" if wanted.name == "d3" else "grd",
        overlapping_polygons=wanted.overlapping_polygons,
    )


def _mevis(wanted: PrepareArguments) -> Release:
    if len(wanted.split) > 1:
        raise InputError("MeViS is prepared one split at a time: give one --split.")
    return read_mevis(
        source=wanted.source,
        split=(wanted.split or ("valid_u",))[0],
        keep_training_masks=not wanted.no_masks,
    )


def _grefcoco(wanted: PrepareArguments) -> Release:
    return read_grefcoco(source=wanted.source, overlapping_polygons=wanted.overlapping_polygons)


def _refzom(wanted: PrepareArguments) -> Release:
    return read_refzom(source=wanted.source, overlapping_polygons=wanted.overlapping_polygons)


_REFER = _Family(_refer, ("split_by", "overlapping_polygons"))
_GROUPED = _Family(_grouped, ("split_by", "seed", "positives_only", "overlapping_polygons"))
_COCA = _Family(lambda it: read_coca(source=it.source, images=it.images, dataset=it.name))
_PHRASECUT = _Family(
    lambda it: read_phrasecut(source=it.source, splits=it.split or ("test",)), ("split",)
)

_FAMILIES: dict[str, _Family] = {
    **dict.fromkeys(("refcoco", "refcoco+", "refcocog", "refclef"), _REFER),
    **dict.fromkeys(("g-refc", "g-refc+", "g-refcg"), _GROUPED),
    **dict.fromkeys(("coca", "cosal2015", "cosod3k"), _COCA),
    **dict.fromkeys(("grd", "d3"), _Family(_d3, ("overlapping_polygons",))),
    "grefcoco": _Family(_grefcoco, ("overlapping_polygons",)),
    "ref-zom": _Family(_refzom, ("overlapping_polygons",)),
    "phrasecut": _PHRASECUT,
    "mevis": _Family(_mevis, ("split",)),
    "custom": _Family(lambda it: read_custom(source=it.source)),
}


def _some(names: list[str]) -> str:
    if not names:
        return "no photograph in common"
    shown = ", ".join(names[:20])
    return f"{shown}, ... (all in index.json)" if len(names) > 20 else shown
