"""The embedded data set: procedural scenes with sentences, written in RefCOCO's own files.

    OUT/config.json               what made it
    OUT/images/000001.jpg ...
    OUT/refcoco/instances.json    one annotation per object (named or not), visible mask as RLE
    OUT/refcoco/refs(unc).p       one entry per named object; each sentence also has its "type"

Read it back with the same reader as RefCOCO: `tris prepare refcoco`.
"""

import dataclasses
import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from tris.data.synthetic_gres import GresConfig, WrittenScene, write_gres
from tris.data.synthetic_hard import HARD_MAKERS, HardConfig
from tris.data.synthetic_scenes import (
    BASIC,
    HARD,
    Palette,
    SceneObject,
    SceneRules,
    render,
    sample_scene,
    visible_masks,
)
from tris.data.synthetic_sentences import Meaning, SentenceWriter
from tris.data.synthetic_textures import cut_background
from tris.errors import InputError

SPLITS = ("train", "val", "test")

_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 96),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)


@dataclass(frozen=True)
class SyntheticConfig(SceneRules):
    """What the embedded data set holds; the rules of its scenes are fields too.

    Attributes:
        num_train_images: Images of the training split.
        num_val_images: Images of the validation split.
        num_test_images: Images of the test split, on which nothing is chosen.
        seed: Every image of every split has a random stream of its own.
        expressions_per_object: Sentences per named object.
        position_share: Share of sentences that need a place word.
        relation_share: Share of sentences that name a second object.
        unnamed_share: Chance that an object has no sentence. One object per image, drawn at random,
            always has, so of all objects fewer are left without.
        gres: Also write splits with sentences about several objects and about none, and image
            groups, for scoring (see `tris.data.synthetic_gres`).
        hard: Harder scenes and sentences; their shares are then those of this field.
    """

    num_train_images: int = 4000
    num_val_images: int = 360
    num_test_images: int = 360
    seed: int = 0
    expressions_per_object: int = 3
    position_share: float = 0.16
    relation_share: float = 0.13
    unnamed_share: float = 0.0
    gres: GresConfig | None = None
    hard: HardConfig | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.gres is not None and self.hard is not None:
            raise InputError("The splits of gres are written for the plain scenes: leave out hard.")

    @property
    def palette(self) -> Palette:
        """What the scenes are made of."""
        return BASIC if self.hard is None else HARD

    def make_writer(self) -> SentenceWriter:
        """Return what writes the sentences of one split."""
        if self.hard is not None:
            return SentenceWriter(self.hard.shares, HARD_MAKERS)
        position, relation = self.position_share, self.relation_share
        attribute = 1 - position - relation
        return SentenceWriter({"attribute": attribute, "position": position, "relation": relation})


def write_synthetic(config: SyntheticConfig, out: Path) -> None:
    """Write the data set; the same config gives the same bytes.

    Nothing is left half-written: the folder appears under its name when it is whole.

    Raises:
        InputError: If ``out`` exists already.
    """
    if out.exists():
        raise InputError(f"{out} exists already; remove it or choose another folder.")
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "images").mkdir(parents=True)
    (part / "refcoco").mkdir()
    files = _RefcocoFiles(config.palette.shapes)
    scenes = {split: _write_split(split, config, files, part / "images") for split in SPLITS}
    (part / "refcoco" / "instances.json").write_text(json.dumps(files.instances()))
    (part / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(files.refs, protocol=2))
    if config.gres is not None:
        write_gres(config.gres, scenes, files.instances(), seed=config.seed, out=part)
    (part / "config.json").write_text(_to_json(config))
    part.replace(out)


def is_synthetic_written(config: SyntheticConfig, out: Path) -> bool:
    """Say whether ``out`` already holds the data set of exactly this config."""
    written = out / "config.json"
    return written.is_file() and written.read_text() == _to_json(config)


class _RefcocoFiles:
    """The contents of ``instances.json`` and ``refs(unc).p`` while they grow."""

    def __init__(self, shapes: tuple[str, ...]) -> None:
        self._shapes = shapes
        self.refs: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._num_sentences = 0

    def add_image(self, side: int) -> tuple[int, str]:
        image_id = len(self._images) + 1
        name = f"{image_id:06d}.jpg"
        self._images.append({"id": image_id, "file_name": name, "height": side, "width": side})
        return image_id, name

    def add_object(self, image_id: int, shape: str, mask: np.ndarray) -> int:
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        annotation = {
            "id": len(self._annotations) + 1,
            "image_id": image_id,
            "category_id": self._shapes.index(shape) + 1,
            "iscrowd": 0,
            "area": int(coco_mask.area(rle)),
            "bbox": coco_mask.toBbox(rle).tolist(),
            "segmentation": [{"size": list(rle["size"]), "counts": rle["counts"].decode()}],
        }
        self._annotations.append(annotation)
        return len(self._annotations)

    def add_referent(self, annotation_id: int, split: str, expressions: list[Meaning]) -> None:
        annotation = self._annotations[annotation_id - 1]
        first = self._num_sentences + 1
        self._num_sentences += len(expressions)
        sentences = [
            {
                "sent_id": first + i,
                "sent": str(expression),
                "raw": str(expression),
                "tokens": str(expression).split(),
                "type": expression.type,
            }
            for i, expression in enumerate(expressions)
        ]
        ref = {
            "ref_id": len(self.refs) + 1,
            "ann_id": annotation_id,
            "category_id": annotation["category_id"],
            "image_id": annotation["image_id"],
            "file_name": self._images[annotation["image_id"] - 1]["file_name"],
            "split": split,
            "sent_ids": [sentence["sent_id"] for sentence in sentences],
            "sentences": sentences,
        }
        self.refs.append(ref)

    def instances(self) -> dict[str, Any]:
        categories = [
            {"id": i + 1, "name": shape, "supercategory": "shape"}
            for i, shape in enumerate(self._shapes)
        ]
        return {
            "info": {"description": "the embedded data set of tris", "version": "1"},
            "licenses": [],
            "images": self._images,
            "annotations": self._annotations,
            "categories": categories,
        }


def _write_split(
    split: str, config: SyntheticConfig, files: _RefcocoFiles, images: Path
) -> list[WrittenScene]:
    scenes = []
    writer = config.make_writer()
    for rng in streams(split, config):
        objects, coverage = sample_scene(config, rng, config.palette)
        image_id, name = files.add_image(config.image_size)
        background = None
        if config.hard is not None:
            is_training = split == "train"
            background = cut_background(config.image_size, rng, is_training=is_training)
        pixels = render(objects, coverage, rng, background=background)
        _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], _JPEG)
        (images / name).write_bytes(encoded.tobytes())
        named = choose_named(objects, config.unnamed_share, rng)
        annotation_ids = []
        for number, (thing, mask) in enumerate(zip(objects, visible_masks(coverage), strict=True)):
            annotation_id = files.add_object(image_id, thing.shape, mask)
            annotation_ids.append(annotation_id)
            if number in named:
                count = config.expressions_per_object
                expressions = writer.write(objects, number, count=count, rng=rng)
                files.add_referent(annotation_id, split, expressions)
        scenes.append(WrittenScene(image_id, objects, tuple(annotation_ids)))
    return scenes


def streams(split: str, config: SyntheticConfig) -> Iterator[np.random.Generator]:
    """Yield the random stream of every image of a split; its scene is drawn first."""
    counts = (config.num_train_images, config.num_val_images, config.num_test_images)
    number = SPLITS.index(split)
    for image in range(counts[number]):
        yield np.random.default_rng([config.seed, number, image])


def choose_named(
    objects: tuple[SceneObject, ...], unnamed_share: float, rng: np.random.Generator
) -> set[int]:
    """Return which objects of an image have sentences; one at least."""
    always = int(rng.integers(len(objects)))
    drawn = rng.random(len(objects)) >= unnamed_share
    return {i for i in range(len(objects)) if drawn[i] or i == always}


def _to_json(config: SyntheticConfig) -> str:
    """Leave out what is off, so that folders written before a field existed stay what they are."""
    fields = dataclasses.asdict(config).items()
    return json.dumps({name: value for name, value in fields if value is not None}, indent=2)
