"""D3 (the d-cube release) and GRD, group by group.

Format: https://github.com/shikras/d-cube (doc.md, and the code for what the pickles really hold):
``images.pkl``, ``annotations.pkl``, ``sentences.pkl``, ``groups.pkl``, each a dict by id; JSON
files of the same names are read as well. ``is_negative`` marks a sentence about an absence ("dog
without leash"), not one without target.

A sentence is put to every photograph of its group; where no annotation carries it, it refers to
nothing. ``d3`` takes all sentences, ``grd`` those of presence: GRSer's 316 (arXiv 2305.12452).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tris.data.masks import Overlap
from tris.data.prepare.coco import annotation_drawer, draw_nothing, read_json
from tris.data.prepare.pickles import load_plain_pickle
from tris.data.prepare.refer import find_file
from tris.data.prepare.release import Draft, Log, clean_text, take
from tris.data.prepare.simple import SimpleRelease
from tris.data.referent import Referent
from tris.errors import InputError, shorten

EXPRESSION_STRIDE = 1_000_000
"""``expression_id`` = sentence id x this + image id: one id per sentence and photograph."""

Records = Mapping[int, Mapping[str, Any]]


def read_d3(
    *,
    source: Path,
    dataset: Literal["d3", "grd"] = "grd",
    overlapping_polygons: Overlap = "union",
) -> SimpleRelease:
    """Read the files.

    Args:
        source: The folder that holds the four files, or its parent.
        dataset: ``grd`` = sentences of presence only, ``d3`` = all.
        overlapping_polygons: See `tris.data.masks.Overlap`.

    Raises:
        InputError: If the files cannot be used, or do not fit each other.
    """
    tables = _read_tables(source)
    pairs = list(tables.pairs(with_absence=dataset == "d3"))
    log = Log()

    def make_drafts() -> Iterator[Draft]:
        for number, pair in enumerate(pairs):
            yield tables.draft(number, *pair, overlapping=overlapping_polygons, log=log)

    return SimpleRelease(
        dataset=dataset,
        sources=tables.paths,
        sizes={
            take(image, "file_name", str, of=f"Image {key}"): (
                take(image, "height", int, of=f"Image {key}"),
                take(image, "width", int, of=f"Image {key}"),
            )
            for key, image in tables.images.items()
        },
        make_drafts=make_drafts,
        num_drafts=len(pairs),
        training_splits=(),
        image_subfolders=("d3_images",),
        options={"overlapping_polygons": overlapping_polygons},
        log=log,
    )


@dataclass(frozen=True)
class _Tables:
    """D3's four tables, by id."""

    paths: tuple[Path, ...]
    images: Records
    annotations: Records
    sentences: Records
    groups: Records
    by_pair: dict[tuple[int, int], list[Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, annotation in self.annotations.items():
            image_id = take(annotation, "image_id", int, of=f"Annotation {key}")
            for sentence_id in take(annotation, "sent_id", list, of=f"Annotation {key}"):
                if not isinstance(sentence_id, int):
                    raise InputError(
                        f"Annotation {key} should have integers as 'sent_id', not "
                        f"{shorten(sentence_id)}."
                    )
                self.by_pair.setdefault((sentence_id, image_id), []).append(annotation)

    def pairs(self, *, with_absence: bool) -> Iterator[tuple[int, int, int]]:
        """Go through group, sentence and image ids of D3's intra-group protocol."""
        for group_id, group in self.groups.items():
            for sentence_id in take(group, "inner_sent_id", list, of=f"Group {group_id}"):
                sentence = _look_up(self.sentences, sentence_id, f"Group {group_id}", "sentence")
                if with_absence or not sentence.get("is_negative", False):
                    for image_id in take(group, "img_id", list, of=f"Group {group_id}"):
                        _look_up(self.images, image_id, f"Group {group_id}", "image")
                        yield group_id, sentence_id, image_id

    def draft(
        self,
        number: int,
        group_id: int,
        sentence_id: int,
        image_id: int,
        *,
        overlapping: Overlap,
        log: Log,
    ) -> Draft:
        sentence, group = self.sentences[sentence_id], self.groups[group_id]
        raw = clean_text(take(sentence, "raw_sent", str, of=f"Sentence {sentence_id}"))
        found = self.by_pair.get((sentence_id, image_id), [])
        referent = Referent(
            referent_id=number + 1,
            image_id=image_id,
            file_name=self.images[image_id]["file_name"],
            height=0,
            width=0,
            expression_ids=(sentence_id * EXPRESSION_STRIDE + image_id,),
            sentences=(raw.lower(),),
            raw_sentences=(raw,),
            expression_types=("absence" if sentence.get("is_negative", False) else "presence",),
            annotation_ids=tuple(take(each, "id", int, of="An annotation") for each in found),
            is_no_target=not found,
            group=f"{group.get('group_name') or group_id}/{sentence_id}",
            source_id=f"{sentence_id}/{image_id}",
        )
        name = f"sentence {sentence_id} in image {image_id}"
        draw = annotation_drawer(found, overlapping=overlapping, log=log, of=name)
        return Draft(("test",), referent, draw if found else draw_nothing)


def _read_tables(source: Path) -> _Tables:
    names = ("images", "annotations", "sentences", "groups")
    paths = tuple(find_file(source, "d3_pkl", (f"{name}.pkl", f"{name}.json")) for name in names)
    images, annotations, sentences, groups = (_read_table(path) for path in paths)
    return _Tables(paths, images, annotations, sentences, groups)


def _read_table(path: Path) -> Records:
    content = read_json(path) if path.suffix == ".json" else load_plain_pickle(path)
    records: Sequence[Any] = (
        list(content.values())
        if isinstance(content, dict)
        else content
        if isinstance(content, list)
        else [None]
    )
    if not all(
        isinstance(record, dict) and isinstance(record.get("id"), int) for record in records
    ):
        raise InputError(f"{path} should hold D3's records by id.")
    return {record["id"]: record for record in records}


def _look_up(records: Records, key: object, of: str, what: str) -> Mapping[str, Any]:
    if not isinstance(key, int) or key not in records:
        raise InputError(f"{of} names {what} {shorten(key)}, which D3's files lack.")
    return records[key]
