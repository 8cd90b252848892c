"""Sentences about several objects and about none, and image groups, for the embedded scenes.

For scoring alone; what is true is read off the scenes, not off any text:

    OUT/grefcoco/instances.json, grefs(unc).json     gRefCOCO's form; splits val and testA
    OUT/groups/refcoco/instances.json, refs(unc).p   RefCOCO's form; splits val and test

Every object that a sentence of a group fits is named, so all other images are its negatives.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tris.data.joining import join_expressions
from tris.data.swapping import list_swaps
from tris.data.synthetic_scenes import COLORS, PATTERNS, SHAPES, SIZES, SceneObject
from tris.data.synthetic_sentences import (
    Description,
    SentenceWriter,
    find_true,
)
from tris.data.words import plural, split_words
from tris.errors import InputError

SPLITS = {"val": "val", "test": "testA"}
"""Split of the embedded data set -> name among gRefCOCO's."""

WORDS = split_words("and both two three four five all the ,")
"""Words of composed sentences that single ones may lack: for the vocabulary."""

_STREAM = 3
"""Keeps these draws apart from others of the same seed."""

_ATTEMPTS = 40
_COUNTS = {2: ("the two", "both", "two"), 3: ("the three", "all three"), 4: ("the four",)}


@dataclass(frozen=True)
class GresConfig:
    """What these splits hold; the shares are gRefCOCO's.

    Attributes:
        sentences_per_image: With several objects, one or none.
        multi_share: Of sentences that mean several objects.
        none_share: Of sentences that mean nothing in the image.
        count_share: Of the sentences about several, those with a number and a plural.
        num_groups: Image groups of each split.
        most_positives: Images of a group that its sentence fits; there are as many others.
    """

    sentences_per_image: int = 4
    multi_share: float = 0.29
    none_share: float = 0.11
    count_share: float = 0.4
    num_groups: int = 40
    most_positives: int = 8

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.sentences_per_image < 1 or self.num_groups < 1 or self.most_positives < 2:
            raise InputError(
                "Splits for generalized segmentation need a sentence per image, a group and two "
                "positives in it."
            )
        if min(self.multi_share, self.none_share) < 0 or self.multi_share + self.none_share > 1:
            raise InputError("multi_share and none_share must be shares that sum to at most 1.")


@dataclass(frozen=True)
class WrittenScene:
    """One image of the embedded data set, as it was written.

    Attributes:
        image_id: In the files.
        objects: From back to front.
        annotation_ids: One per object.
    """

    image_id: int
    objects: tuple[SceneObject, ...]
    annotation_ids: tuple[int, ...]


def write_gres(
    config: GresConfig,
    scenes: Mapping[str, Sequence[WrittenScene]],
    instances: Mapping[str, Any],
    *,
    seed: int,
    out: Path,
) -> None:
    """Write both sets of files below ``out``.

    Args:
        config: What they hold.
        scenes: By split of the embedded data set.
        instances: Content of ``instances.json``.
        seed: Of the data set.
        out: Folder of the data set.
    """
    sentences, groups = _Records(instances), _Records(instances)
    for number, (split, name) in enumerate(SPLITS.items()):
        rng = np.random.default_rng([seed, _STREAM, number])
        writer = SentenceWriter({"attribute": 0.71, "position": 0.16, "relation": 0.13})
        for scene in scenes[split]:
            for _ in range(config.sentences_per_image):
                kind, text, targets = _write_sentence(config, scene.objects, writer, rng)
                ids = [scene.annotation_ids[target] for target in targets]
                sentences.add(scene, ids, [(text, kind)], split=name)
        _write_groups(config, scenes[split], groups, split=split, rng=rng)
    folder = out / "grefcoco"
    folder.mkdir()
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "grefs(unc).json").write_text(json.dumps(sentences.refs))
    folder = out / "groups" / "refcoco"
    folder.mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(instances))
    single = [{**ref, "ann_id": ref["ann_id"][0], "category_id": ref["category_id"][0]}
              for ref in groups.refs]  # fmt: skip
    (folder / "refs(unc).p").write_bytes(pickle.dumps(single, protocol=2))


@dataclass
class _Records:
    """gRefCOCO's records while they grow."""

    instances: Mapping[str, Any]
    refs: list[dict[str, Any]] = field(default_factory=list)
    num_sentences: int = 0

    def add(
        self, scene: WrittenScene, ids: list[int], texts: Sequence[tuple[str, str]], *, split: str
    ) -> None:
        annotations, first = self.instances["annotations"], self.num_sentences + 1
        self.num_sentences += len(texts)
        sentences = [
            {"sent_id": first + i, "sent": text, "raw": text, "tokens": text.split(), "type": kind}
            for i, (text, kind) in enumerate(texts)
        ]
        self.refs.append(
            {
                "ref_id": len(self.refs) + 1,
                "ann_id": ids or [-1],
                "category_id": [annotations[key - 1]["category_id"] for key in ids] or [-1],
                "image_id": scene.image_id,
                "file_name": self.instances["images"][scene.image_id - 1]["file_name"],
                "split": split,
                "no_target": not ids,
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "sentences": sentences,
            }
        )


def _write_sentence(
    config: GresConfig,
    objects: Sequence[SceneObject],
    writer: SentenceWriter,
    rng: np.random.Generator,
) -> tuple[str, str, list[int]]:
    """Return kind, sentence and the numbers of the objects meant."""
    drawn = rng.random()
    if drawn < config.none_share:
        return "none", _write_untrue(objects, writer, rng), []
    if drawn < config.none_share + config.multi_share:
        if rng.random() < config.count_share:
            counted = _count_objects(objects, rng)
            if counted is not None:
                return "multi", *counted
        joined = _join_objects(objects, writer, rng)
        if joined is not None:
            return "multi", *joined
    while True:
        target = int(rng.integers(len(objects)))
        expressions = writer.write(objects, target, count=1, rng=rng)
        if expressions:
            return "single", str(expressions[0]), [target]


def _join_objects(
    objects: Sequence[SceneObject], writer: SentenceWriter, rng: np.random.Generator
) -> tuple[str, list[int]] | None:
    most = min(len(objects), 3)
    count = most if rng.random() < 0.25 else 2
    targets = sorted(rng.choice(len(objects), count, replace=False).tolist())
    expressions = [writer.write(objects, target, count=1, rng=rng) for target in targets]
    if not all(expressions):
        return None
    singles = [str(each[0]) for each in expressions]
    return join_expressions(singles, brief_share=0.0, rng=rng), targets


def _count_objects(
    objects: Sequence[SceneObject], rng: np.random.Generator
) -> tuple[str, list[int]] | None:
    """Say how many there are of a kind that there are several of; they all are meant."""
    for _ in range(_ATTEMPTS):
        look = objects[int(rng.integers(len(objects)))].look
        said = rng.random(4) < (0.2, 0.1, 0.5, 0.6)
        kind = Description(*(word if say else "" for word, say in zip(look, said, strict=True)))
        targets = [number for number, thing in enumerate(objects) if kind.fits(thing)]
        if len(targets) in _COUNTS and any(said):
            *adjectives, noun = str(kind).split()
            forms = _COUNTS[len(targets)]
            text = " ".join([forms[rng.integers(len(forms))], *adjectives, plural(noun)])
            return text, targets
    return None


def _write_untrue(
    objects: Sequence[SceneObject], writer: SentenceWriter, rng: np.random.Generator
) -> str:
    """Return a sentence that fits nothing: half the time a true one but for one word."""
    while True:
        if rng.random() < 0.5:
            target = int(rng.integers(len(objects)))
            own = [str(each) for each in writer.write(objects, target, count=1, rng=rng)]
            texts = [swap.sentence for each in own for swap in list_swaps(each, vocabulary=_KNOWN)]
        else:
            texts = [str(_draw_description(rng))]
        if texts:
            text = texts[rng.integers(len(texts))]
            if not find_true(text, objects):
                return text


def _draw_description(rng: np.random.Generator) -> Description:
    said = rng.random(4) < (0.4, 0.3, 0.9, 0.9)
    tables = (tuple(SIZES), PATTERNS, tuple(COLORS), SHAPES)
    drawn = (table[rng.integers(len(table))] for table in tables)
    return Description(*(word if say else "" for word, say in zip(drawn, said, strict=True)))


def _write_groups(
    config: GresConfig,
    scenes: Sequence[WrittenScene],
    records: _Records,
    *,
    split: str,
    rng: np.random.Generator,
) -> None:
    """Choose sentences that fit a few images, and name every object that one of them fits."""

    @cache
    def count_images(kind: Description) -> int:
        return sum(any(kind.fits(thing) for thing in scene.objects) for scene in scenes)

    chosen: dict[str, Description] = {}
    for _ in range(_ATTEMPTS * config.num_groups):
        kind = _draw_description(rng)
        if 2 <= count_images(kind) <= config.most_positives:
            chosen.setdefault(str(kind), kind)
        if len(chosen) == config.num_groups:
            break
    for scene in scenes:
        for number, thing in enumerate(scene.objects):
            texts = [(text, "attribute") for text, kind in chosen.items() if kind.fits(thing)]
            if texts:
                records.add(scene, [scene.annotation_ids[number]], texts, split=split)


_KNOWN = frozenset(
    [*COLORS, *SHAPES, *SIZES, *PATTERNS, *split_words("left right top bottom above below")]
)
