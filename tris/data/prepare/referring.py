"""REFER's records (``refs(*).p`` and kin) as drafts: shared by RefCOCO, gRefCOCO and Ref-ZOM."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tris.data.masks import Overlap
from tris.data.prepare.coco import Instances, annotation_drawer, draw_nothing, read_instances
from tris.data.prepare.photographs import Size
from tris.data.prepare.release import Draft, Log, take
from tris.data.prepare.sentences import read_sentences
from tris.data.referent import Referent
from tris.errors import InputError, shorten

Record = Mapping[str, Any]
COCO_FOLDERS = ("train2014", "val2014", "trainval2014", "images/mscoco/images/train2014")


@dataclass
class ReferringRelease:
    """A `tris.data.prepare.release.Release` in REFER's form; see `read_referring`."""

    dataset: str
    split_by: str
    sources: tuple[Path, ...]
    records: Sequence[Record]
    instances: Instances
    object_ids: Callable[[Record], tuple[int, ...]]
    overlapping: Overlap = "union"
    training_splits: tuple[str, ...] = ("train",)
    image_subfolders: tuple[str, ...] = COCO_FOLDERS
    options: dict[str, str] = field(default_factory=dict)
    log: Log = field(default_factory=Log)

    def __len__(self) -> int:
        return len(self.records)

    def photographs(self) -> dict[str, Size | None]:
        """Return height, width by file name."""
        return {name: self.instances.sizes[key] for key, name in self.instances.file_names.items()}

    def drafts(self) -> Iterator[Draft]:
        """Go through the records; those without a sentence are left out and noted."""
        for record in self.records:
            name = _name(record)
            sentences = read_sentences(
                take(record, "sentences", list, of=name), of=name, log=self.log
            )
            if sentences.expression_ids:
                yield self._draft(record, name, vars(sentences))
            else:
                self.log.left_out.append(f"{name}: it has no sentence")

    def _draft(self, record: Record, name: str, sentences: dict[str, Any]) -> Draft:
        image_id = record["image_id"]
        if image_id not in self.instances.file_names:
            raise InputError(f"{name} is about image {image_id}, which {self.sources[-1]} lacks.")
        object_ids = self.object_ids(record)
        annotations = [self._annotation(key, image_id, name) for key in object_ids]
        referent = Referent(
            referent_id=take(record, "ref_id", int, of=name),
            image_id=image_id,
            file_name=self.instances.file_names[image_id],
            height=0,
            width=0,
            **sentences,
            category=self._category(annotations),
            annotation_ids=object_ids,
            is_no_target=not object_ids,
            coco_id=0 if self.dataset == "refclef" else image_id,
        )
        draw = (
            annotation_drawer(annotations, overlapping=self.overlapping, log=self.log, of=name)
            if object_ids
            else draw_nothing
        )
        return Draft(split_names(take(record, "split", str, of=name)), referent, draw)

    def _annotation(self, key: int, image_id: int, name: str) -> Record:
        annotation = self.instances.annotations.get(key)
        if annotation is None:
            raise InputError(f"{name} is about annotation {key}, which {self.sources[-1]} lacks.")
        if annotation.get("image_id") != image_id:
            raise InputError(
                f"{name} is about image {image_id}, but its annotation {key} about image "
                f"{shorten(annotation.get('image_id'))}: the files belong to different versions."
            )
        return annotation

    def _category(self, annotations: Sequence[Record]) -> str:
        keys = (each.get("category_id") for each in annotations)
        names = (self.instances.categories.get(key) for key in keys if isinstance(key, int))
        return ", ".join(dict.fromkeys(name for name in names if name))


def read_referring(
    records: Any,  # noqa: ANN401 - checked here
    *,
    dataset: str,
    split_by: str,
    records_path: Path,
    instances_path: Path,
    object_ids: Callable[[Record], tuple[int, ...]],
    overlapping: Overlap = "union",
) -> ReferringRelease:
    """Look up what REFER's records refer to.

    Args:
        records: What the file of records holds.
        dataset: Name of the data set.
        split_by: Who made the splits.
        records_path: Where the records came from, for messages and the manifest.
        instances_path: COCO's ``instances.json`` of the data set.
        object_ids: Gives the annotation ids of a record; none = it refers to nothing.
        overlapping: See `tris.data.masks.Overlap`.

    Raises:
        InputError: If the records are no list of dicts with ref_id, image_id and split, or
            ``instances_path`` is no such file.
    """
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{records_path} should hold a list of dict, one per referent.")
    image_ids = {take(record, "image_id", int, of=_name(record)) for record in records}
    annotation_ids = {key for record in records for key in object_ids(record)}
    return ReferringRelease(
        dataset=dataset,
        split_by=split_by,
        sources=(records_path, instances_path),
        records=records,
        instances=read_instances(
            instances_path, image_ids=image_ids, annotation_ids=annotation_ids
        ),
        object_ids=object_ids,
        overlapping=overlapping,
        options={"overlapping_polygons": overlapping},
    )


def list_object_ids(record: Record) -> tuple[int, ...]:
    """Return the annotation ids of a record, whose ``ann_id`` is a number or a list, each once.

    ``-1``, ``[-1]``, ``[]`` and None mean that there is no object.

    Raises:
        InputError: If they are no integers, or -1 stands beside real ones.
    """
    given = record.get("ann_id")
    listed = given if isinstance(given, list | tuple) else [] if given is None else [given]
    if not all(isinstance(key, int) for key in listed):
        raise InputError(f"{_name(record)} should have integers as 'ann_id', not {shorten(given)}.")
    if set(listed) == {-1}:
        return ()
    if -1 in listed:
        raise InputError(
            f"{_name(record)} has -1 (no target) beside real annotations: {shorten(given)}."
        )
    return tuple(dict.fromkeys(listed))


def split_names(split: str) -> tuple[str, ...]:
    """Return the splits that REFER's split string names: "testAB" lies in testA and in testB."""
    joint = re.fullmatch("test([A-Z]+)", split)
    return tuple(f"test{letter}" for letter in joint[1]) if joint else (split,)


def _name(record: Record) -> str:
    return f"Ref {shorten(record.get('ref_id'))}"
