"""gRefCOCO: sentences for one object, several, or none.

Format: https://github.com/henghuiding/gRefCOCO and ReLA's ``DATASET.md``: ``grefs(unc).json`` (or
``.p``) beside ``instances.json``. As REFER's records, but ``ann_id`` is a list, ``[-1]`` = none.
"""

from pathlib import Path

from tris.data.masks import Overlap
from tris.data.prepare.coco import read_json
from tris.data.prepare.pickles import load_plain_pickle
from tris.data.prepare.refer import find_file
from tris.data.prepare.referring import ReferringRelease, list_object_ids, read_referring


def read_grefcoco(*, source: Path, overlapping_polygons: Overlap = "union") -> ReferringRelease:
    """Read the files.

    Args:
        source: The folder that holds ``grefs(unc).json``, or its parent.
        overlapping_polygons: See `tris.data.masks.Overlap`.

    Raises:
        InputError: If the files cannot be used.
    """
    path = find_file(source, "grefcoco", ("grefs(unc).json", "grefs(unc).p"))
    return read_referring(
        read_json(path) if path.suffix == ".json" else load_plain_pickle(path),
        dataset="grefcoco",
        split_by="unc",
        records_path=path,
        instances_path=path.parent / "instances.json",
        object_ids=list_object_ids,
        overlapping=overlapping_polygons,
    )
