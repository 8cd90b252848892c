"""G-RefC, G-RefC+ and G-RefCg: one sentence against a group of photographs, built from RefCOCO*.

GRSer (arXiv 2305.12452, section 5.1) gathers the photographs that share a sentence and adds as
many that do not, drawn from other groups; its lists were not released, so these groups follow the
text with a seed of their own. A group here needs two or more photographs with the sentence.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tris.data.masks import Overlap
from tris.data.prepare.coco import annotation_drawer, draw_nothing
from tris.data.prepare.refer import read_refer
from tris.data.prepare.referring import ReferringRelease
from tris.data.prepare.release import Draft, Log
from tris.data.prepare.simple import SimpleRelease
from tris.data.referent import Referent
from tris.errors import InputError

BUILT_FROM = {"g-refc": "refcoco", "g-refc+": "refcoco+", "g-refcg": "refcocog"}


@dataclass(frozen=True)
class _Group:
    """One sentence of one split: the referents it fits, by image, and as many other images."""

    split: str
    sentence: str
    positives: Mapping[int, tuple[Referent, ...]]
    negatives: tuple[int, ...]


def read_grouped(
    *,
    dataset: str,
    source: Path,
    split_by: str | None = None,
    seed: int = 0,
    with_negatives: bool = True,
    overlapping_polygons: Overlap = "union",
) -> SimpleRelease:
    """Build the groups.

    Args:
        dataset: A key of `BUILT_FROM`.
        source: The folder of RefCOCO's, RefCOCO+'s or RefCOCOg's files.
        split_by: As for `tris.data.prepare.refer.read_refer`.
        seed: Of the negatives.
        with_negatives: False = positives alone, GRSer's "RES setting".
        overlapping_polygons: See `tris.data.masks.Overlap`.

    Raises:
        InputError: If the files cannot be used, or no sentence is repeated.
    """
    if dataset not in BUILT_FROM:
        raise InputError(f"{dataset!r} is none of {', '.join(BUILT_FROM)}.")
    base = read_refer(
        dataset=BUILT_FROM[dataset],
        source=source,
        split_by=split_by,
        overlapping_polygons=overlapping_polygons,
    )
    groups = _find_groups(base)
    if not groups:
        raise InputError(f"No sentence in {source} is repeated for two photographs of a split.")
    if with_negatives:
        groups = _draw_negatives(groups, random.Random(seed))
        for group in groups:
            if len(group.negatives) < len(group.positives):
                base.log.mend("groups have fewer negatives than positives: their split is small")
    log = base.log
    used = {
        base.instances.file_names[image_id]
        for group in groups
        for image_id in (*group.positives, *group.negatives)
    }

    def make_drafts() -> Iterator[Draft]:
        number = 0
        for group in groups:
            for image_id in (*group.positives, *group.negatives):
                number += 1
                yield _draft(group, image_id, number, base, log)

    return SimpleRelease(
        dataset=dataset,
        split_by=base.split_by,
        sources=base.sources,
        sizes={name: size for name, size in base.photographs().items() if name in used},
        make_drafts=make_drafts,
        num_drafts=sum(len(group.positives) + len(group.negatives) for group in groups),
        image_subfolders=base.image_subfolders,
        options={**base.options, "seed": str(seed), "with_negatives": str(with_negatives)},
        log=log,
    )


def _find_groups(base: ReferringRelease) -> list[_Group]:
    """Gather sentences that two or more photographs of a split share, in a fixed order."""
    found: dict[tuple[str, str], dict[int, list[Referent]]] = {}
    for draft in base.drafts():
        referent = replace(draft.referent, mask=None)
        for split in draft.splits:
            for sentence in dict.fromkeys(referent.sentences):
                images = found.setdefault((split, sentence), {})
                images.setdefault(referent.image_id, []).append(referent)
    return [
        _Group(split, sentence, {key: tuple(each) for key, each in images.items()}, ())
        for (split, sentence), images in sorted(found.items())
        if len(images) >= 2
    ]


def _draw_negatives(groups: list[_Group], generator: random.Random) -> list[_Group]:
    """Give each group as many photographs of other groups of its split as it has of its own."""
    pools: dict[str, list[int]] = {}
    for group in groups:
        pools.setdefault(group.split, []).extend(group.positives)
    pools = {split: sorted(set(pool)) for split, pool in pools.items()}
    return [
        replace(group, negatives=_sample(pools[group.split], group.positives, generator))
        for group in groups
    ]


def _sample(
    pool: list[int], positives: Mapping[int, Any], generator: random.Random
) -> tuple[int, ...]:
    """Draw without repetition from the pool; small pools give fewer than asked."""
    wanted = min(len(positives), len(pool) - len(positives))
    drawn: list[int] = []
    if 4 * len(positives) > len(pool):
        return tuple(generator.sample([key for key in pool if key not in positives], wanted))
    while len(drawn) < wanted:
        key = generator.choice(pool)
        if key not in positives and key not in drawn:
            drawn.append(key)
    return tuple(drawn)


def _draft(group: _Group, image_id: int, number: int, base: ReferringRelease, log: Log) -> Draft:
    referents = group.positives.get(image_id, ())
    ids = tuple(dict.fromkeys(key for each in referents for key in each.annotation_ids))
    name = f"{group.sentence!r} in image {image_id}"
    draw = annotation_drawer(
        [base.instances.annotations[key] for key in ids],
        overlapping=base.overlapping,
        log=log,
        of=name,
    )
    referent = Referent(
        referent_id=number,
        image_id=image_id,
        file_name=base.instances.file_names[image_id],
        height=0,
        width=0,
        expression_ids=(number,),
        sentences=(group.sentence,),
        raw_sentences=(group.sentence,),
        category=", ".join(dict.fromkeys(each.category for each in referents)),
        annotation_ids=ids,
        is_no_target=not ids,
        group=group.sentence,
        source_id=",".join(str(each.referent_id) for each in referents),
        coco_id=image_id,
    )
    return Draft((group.split,), referent, draw if ids else draw_nothing)
