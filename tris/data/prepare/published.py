"""What papers say a data set holds, and how its splits leak."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from tris.data.manifest import SplitFacts

Quantity = Literal[
    "images", "referents", "expressions", "multi_target", "no_target", "objects", "groups"
]

_TFDS = "TensorFlow Datasets' table"
_FLAGEVAL = "FlagEval's page on RefCOCO"
_TRIS = "TRIS, section 4.1"
_MABP = "MABP, section IV.A"
_DMMI = "DMMI, section 4"
_GRSER_GRD = "GRSer, section 4.3"
_GRSER = "GRSer, section 5.1"
_D_CUBE = "doc.md of d-cube, whose sentences are these groups"
_PHRASECUT = "PhraseCut's README"
_MEVIS = "MeViS's README"
_COCA = "the CoCA release"

ALL = "all"
"""Stands for all splits together, each referent once."""


class Published(NamedTuple):
    """One published number."""

    split: str
    quantity: Quantity
    number: int
    source: str


def _table(
    source: str, quantities: tuple[Quantity, ...], **rows: tuple[int, ...]
) -> tuple[Published, ...]:
    return tuple(
        Published(split, quantity, number, source)
        for split, numbers in rows.items()
        for quantity, number in zip(quantities, numbers, strict=True)
    )


_REFERENTS_IMAGES: tuple[Quantity, ...] = ("referents", "images")

PUBLISHED: Mapping[tuple[str, str], tuple[Published, ...]] = {
    ("refcoco", "unc"): (
        *_table(
            _TFDS,
            _REFERENTS_IMAGES,
            train=(42404, 16994),
            val=(3811, 1500),
            testA=(1975, 750),
            testB=(1810, 750),
        ),
        *_table(
            _FLAGEVAL, ("expressions",), train=(120624,), val=(10834,), testA=(5657,), testB=(5095,)
        ),
        *_table(_TRIS, ("images", "expressions"), all=(19994, 142209)),
    ),
    ("refcoco", "google"): _table(
        _TFDS, _REFERENTS_IMAGES, train=(40000, 19213), val=(5000, 4559), test=(5000, 4527)
    ),
    ("refcoco+", "unc"): (
        *_table(
            _TFDS,
            _REFERENTS_IMAGES,
            train=(42278, 16992),
            val=(3805, 1500),
            testA=(1975, 750),
            testB=(1798, 750),
        ),
        *_table(_TRIS, ("images", "expressions"), all=(19992, 141564)),
    ),
    ("refcocog", "umd"): (
        *_table(
            _TFDS, _REFERENTS_IMAGES, train=(42226, 21899), val=(2573, 1300), test=(5023, 2600)
        ),
        Published(ALL, "images", 26711, f"{_TRIS} (with Google's unreleased test split)"),
        Published(ALL, "expressions", 104560, f"{_TRIS} (with Google's unreleased test split)"),
    ),
    ("refcocog", "google"): (
        *_table(_TFDS, _REFERENTS_IMAGES, train=(44822, 24698), val=(5000, 4650)),
        Published(ALL, "images", 26711, f"{_TRIS} (with the unreleased test split)"),
        Published(ALL, "expressions", 104560, f"{_TRIS} (with the unreleased test split)"),
    ),
    ("refclef", "unc"): _table(_TRIS, ("images", "expressions"), all=(19894, 130525)),
    ("refclef", "berkeley"): _table(_TRIS, ("images", "expressions"), all=(19894, 130525)),
    ("grefcoco", "unc"): _table(
        _MABP,
        ("images", "expressions", "multi_target", "no_target", "objects"),
        all=(19994, 278232, 80022, 32202, 60287),
    ),
    ("ref-zom", "final"): _table(
        _DMMI, ("images", "objects"), train=(43749, 58356), test=(11329, 16586), all=(55078, 74942)
    ),
    ("grd", ""): _table(_GRSER_GRD, ("images", "groups", "expressions"), test=(10578, 316, 31524)),
    ("d3", ""): _table(_D_CUBE, ("groups",), test=(422,)),
    ("g-refc", "unc"): _table(_GRSER, ("groups",), all=(8717,)),
    ("g-refc+", "unc"): _table(_GRSER, ("groups",), all=(8020,)),
    ("g-refcg", "umd"): _table(_GRSER, ("groups",), all=(2451,)),
    ("phrasecut", ""): (
        *_table(
            _PHRASECUT,
            ("images", "expressions"),
            train=(71746, 310816),
            test=(2545, 14354),
            miniv=(100, 821),
        ),
        *_table(f"{_PHRASECUT} (less miniv)", ("images", "expressions"), val=(2871, 19495)),
    ),
    ("coca", ""): _table(_COCA, ("groups", "images"), test=(80, 1295)),
    ("mevis", ""): _table(_MEVIS, ("groups",), train=(23051,), valid_u=(793,), valid=(2236,)),
}
"""By data set and who made its splits."""

_COCO_LEAK = (
    "All splits, val and test too, lie in COCO train2014: whatever was trained on COCO has seen "
    "their photographs, and in part their masks."
)
_SHARED_LEAK = (
    "RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and Ref-ZOM split the same photographs differently: "
    "compare with --check-overlap before training on one and testing on another."
)
_LEAKS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("refcoco", "refcoco+", "refcocog", "grefcoco"), (_COCO_LEAK, _SHARED_LEAK)),
    **dict.fromkeys(("g-refc", "g-refc+", "g-refcg"), (_COCO_LEAK, _SHARED_LEAK)),
    "ref-zom": (_SHARED_LEAK,),
    "phrasecut": (
        "Visual Genome shares photographs with COCO: compare with --check-overlap before testing "
        "what was trained on RefCOCO.",
    ),
}


def compare_with_published(
    dataset: str, split_by: str, facts: Mapping[str, SplitFacts], total: SplitFacts
) -> Iterator[str]:
    """Give a sentence for every number that differs from a published one."""
    by_split = {**facts, ALL: total}
    name = f"{dataset} ({split_by})" if split_by else dataset
    for split, quantity, number, source in PUBLISHED.get((dataset, split_by), ()):
        here = int(getattr(by_split[split], quantity)) if split in by_split else number
        if here != number:
            where = "in all" if split == ALL else split
            what = quantity.replace("_", "-")
            yield f"{name} {where}: {here:,} {what} here, {number:,} published ({source})."


def leakage_warnings(dataset: str, split_by: str) -> tuple[str, ...]:
    """Return what is known of photographs that training and test have in common."""
    if split_by == "google":
        repeated = "Google's splits part objects, not photographs: train and val share many."
        return (*_LEAKS.get(dataset, ()), repeated)
    return _LEAKS.get(dataset, ())
