"""Ref-ZOM: sentences for zero, one or many objects.

Format: https://github.com/toggle1995/RIS-DMMI: ``refs(final).p`` (downloaded as
``Ref-ZOM(final).p``) beside ``instances.json``; the key ``source`` says zero, one or many. The
``ann_id`` of a zero record means nothing and is not looked at.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tris.data.masks import Overlap
from tris.data.prepare.pickles import load_plain_pickle
from tris.data.prepare.refer import find_file
from tris.data.prepare.referring import ReferringRelease, list_object_ids, read_referring
from tris.errors import InputError, shorten


def read_refzom(*, source: Path, overlapping_polygons: Overlap = "union") -> ReferringRelease:
    """Read the files.

    Args:
        source: The folder that holds ``refs(final).p``, or its parent.
        overlapping_polygons: See `tris.data.masks.Overlap`.

    Raises:
        InputError: If the files cannot be used.
    """
    path = find_file(source, "ref-zom", ("refs(final).p", "Ref-ZOM(final).p"))
    return read_referring(
        load_plain_pickle(path),
        dataset="ref-zom",
        split_by="final",
        records_path=path,
        instances_path=path.parent / "instances.json",
        object_ids=_object_ids,
        overlapping=overlapping_polygons,
    )


def _object_ids(record: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the annotation ids; a record without ``source`` has a target, as in DMMI's reader."""
    if record.get("source", "one") == "zero":
        return ()
    ids = list_object_ids(record)
    if not ids:
        raise InputError(
            f"Ref {shorten(record.get('ref_id'))} has source "
            f"{shorten(record.get('source', 'one'))} but no "
            "annotation: only 'zero' may have none."
        )
    return ids
