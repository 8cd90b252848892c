"""RefCOCO, RefCOCO+, RefCOCOg and ReferIt (refclef), in the form of the REFER toolkit.

Format: https://github.com/lichengunc/refer (README, refer.py): ``refs(<split_by>).p``, a pickled
list of records, beside ``instances.json``. In refclef a segmentation is a list of RLEs, and image
file names start with a folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tris.data.masks import Overlap
from tris.data.prepare.assemble import Settings, assemble
from tris.data.prepare.pickles import load_plain_pickle
from tris.data.prepare.referring import ReferringRelease, list_object_ids, read_referring
from tris.errors import InputError, shorten

SPLITS_BY = {
    "refcoco": ("unc", "google"),
    "refcoco+": ("unc",),
    "refcocog": ("umd", "google"),
    "refclef": ("unc", "berkeley"),
}
"""Who made splits, per data set; the first is what papers use most."""


def prepare_refer(
    *,
    dataset: str,
    source: Path,
    images: Path,
    out: Path,
    split_by: str | None = None,
    keep_training_masks: bool = True,
    overlapping_polygons: Overlap = "union",
    settings: Settings | None = None,
) -> Path:
    """Make the index of a data set in REFER's form.

    Args:
        dataset: A key of `SPLITS_BY`.
        source: The folder that holds ``refs(...).p``, or its parent.
        images: The image folder.
        out: The index to make.
        split_by: A value of `SPLITS_BY`; None = its first.
        keep_training_masks: False = leave masks and boxes out of the training split.
        overlapping_polygons: See `tris.data.masks.Overlap`.
        settings: Everything else that `assemble` can be told.

    Returns:
        ``out``.

    Raises:
        InputError: If the files or the photographs cannot be used.
    """
    release = read_refer(
        dataset=dataset, source=source, split_by=split_by, overlapping_polygons=overlapping_polygons
    )
    return assemble(
        release,
        images=images,
        out=out,
        keep_training_masks=keep_training_masks,
        settings=settings or Settings(),
    )


def read_refer(
    *,
    dataset: str,
    source: Path,
    split_by: str | None = None,
    overlapping_polygons: Overlap = "union",
) -> ReferringRelease:
    """Read the files; arguments as for `prepare_refer`."""
    if dataset not in SPLITS_BY:
        raise InputError(f"{dataset!r} is none of {', '.join(SPLITS_BY)}.")
    split_by = split_by or SPLITS_BY[dataset][0]
    if split_by not in SPLITS_BY[dataset]:
        raise InputError(
            f"{dataset} has no split by {split_by!r}: choose {' or '.join(SPLITS_BY[dataset])}."
        )
    records_path = find_file(source, dataset, (f"refs({split_by}).p",))
    release = read_referring(
        load_plain_pickle(records_path),
        dataset=dataset,
        split_by=split_by,
        records_path=records_path,
        instances_path=records_path.parent / "instances.json",
        object_ids=_one_object,
        overlapping=overlapping_polygons,
    )
    if dataset == "refclef":
        release.image_subfolders = ("saiapr_tc-12", "images/saiapr_tc-12")
    return release


def find_file(source: Path, dataset: str, names: tuple[str, ...]) -> Path:
    """Return the first of several file names that lies in ``source`` or ``source/dataset``.

    Raises:
        InputError: If none does; the names and what lies there are listed.
    """
    for folder in (source, source / dataset):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    if not source.is_dir():
        raise InputError(f"There is no folder {source}: give --source.")
    present = ", ".join(sorted(path.name for path in source.iterdir())[:20]) or "nothing"
    raise InputError(f"{source} holds no {' or '.join(names)}, but {present}.")


def _one_object(record: Mapping[str, Any]) -> tuple[int, ...]:
    ids = list_object_ids(record)
    if len(ids) != 1:
        raise InputError(
            f"Ref {shorten(record.get('ref_id'))} should have one annotation as 'ann_id', not "
            f"{shorten(record.get('ann_id'))}: is this gRefCOCO or Ref-ZOM?"
        )
    return ids
