"""The index at RefCOCO's scale: preparing, opening and reading it, beside plain Python.

    python benchmarks/index.py                  142,210 sentences, 196,771 annotations
    python benchmarks/index.py --scale 0.01     for CI

Writes RefCOCO's own files with made-up content of the same size (polygons of the same length, one
photograph linked 19,994 times), then measures each step in a process of its own. "adds" is what a
step adds to the resident memory of its process, after imports.
"""

import json
import multiprocessing
import os
import pickle
import random
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from PIL import Image

from tris.data.index import open_index
from tris.data.prepare.assemble import Settings
from tris.data.prepare.refer import prepare_refer

NUM_IMAGES, NUM_REFERENTS, NUM_ANNOTATIONS, NUM_SENTENCES = 19_994, 50_000, 196_771, 142_210
HEIGHT, WIDTH = 480, 640
MEAN_POINTS = 45
"""Points per annotation: makes ``instances.json`` 140 MB, as RefCOCO's."""

WORDS = (
    "left",
    "right",
    "man",
    "woman",
    "guy",
    "girl",
    "red",
    "blue",
    "white",
    "shirt",
    "in",
    "the",
)


@dataclass(frozen=True)
class Arguments:
    """Measure the index.

    Attributes:
        scale: Part of RefCOCO's size.
        json_out: Write the figures here as well.
        check: Fail where a figure misses its target (full scale only).
    """

    scale: float = 1.0
    json_out: Path | None = None
    check: bool = False


def main() -> None:
    """Generate, measure, print."""
    wanted = tyro.cli(Arguments)
    with tempfile.TemporaryDirectory(prefix="tris-index-") as folder:
        root = Path(folder)
        write_release(root, scale=wanted.scale)
        figures = {
            "prepare": in_own_process(measure_prepare, root),
            "open": in_own_process(measure_open, root),
            "read every row": in_own_process(measure_read, root),
            "plain Python": in_own_process(measure_plain, root),
        }
        sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(root.rglob("*.arrow"))}
    for step, values in figures.items():
        print(f"{step:15}", "  ".join(f"{name} {value:,.3f}" for name, value in values.items()))
    print("files, MB      ", "  ".join(f"{name} {size:.1f}" for name, size in sizes.items()))
    if wanted.json_out is not None:
        wanted.json_out.write_text(json.dumps(figures, indent=2) + "\n")
    if wanted.check:
        check(figures)


def check(figures: dict[str, dict[str, float]]) -> None:
    """Raise where a figure misses its target."""
    targets = {
        ("open", "seconds"): 0.5,
        ("open", "adds MB"): 100.0,
        ("read every row", "adds MB"): 100.0,
        ("prepare", "seconds"): 60.0,
        ("prepare", "peak MB"): 1500.0,
    }
    missed = [
        f"{step} {name}: {figures[step][name]:.3f} > {target}"
        for (step, name), target in targets.items()
        if figures[step][name] > target
    ]
    if missed:
        raise SystemExit("; ".join(missed))


def write_release(root: Path, *, scale: float) -> None:
    """Write ``refs(unc).p``, ``instances.json`` and photographs."""
    generator = random.Random(0)
    num_images = max(2, round(NUM_IMAGES * scale))
    images = [
        {"id": key, "file_name": f"COCO_train2014_{key:012}.jpg", "height": HEIGHT, "width": WIDTH}
        for key in range(1, num_images + 1)
    ]
    annotations = [
        make_annotation(key, 1 + key % num_images, generator)
        for key in range(max(2, round(NUM_ANNOTATIONS * scale)))
    ]
    refs = make_refs(annotations[: max(2, round(NUM_REFERENTS * scale))], generator)
    categories = [{"id": 1, "name": "person", "supercategory": "person"}]
    (root / "refcoco").mkdir()
    with (root / "refcoco" / "instances.json").open("w") as file:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    write_photographs(root / "images", [str(image["file_name"]) for image in images])


def make_annotation(key: int, image_id: int, generator: random.Random) -> dict[str, Any]:
    """Make a wobbly disk with as many points as COCO's outlines have."""
    num_points = max(4, int(generator.expovariate(1 / MEAN_POINTS)))
    angles = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    radius = generator.uniform(20, 120)
    x = generator.uniform(60, WIDTH - 60) + radius * np.cos(angles)
    y = generator.uniform(60, HEIGHT - 60) + radius * np.sin(angles)
    points = np.stack([x, y], axis=1).clip(0, [WIDTH, HEIGHT]).round(2)
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return {
        "id": key,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": float((right - left) * (bottom - top)),
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": [points.reshape(-1).tolist()],
    }


def make_refs(annotations: list[dict[str, Any]], generator: random.Random) -> list[dict[str, Any]]:
    """Make a record per annotation, with 2.84 sentences each as in RefCOCO."""
    refs = []
    sentence_id = 0
    for number, annotation in enumerate(annotations):
        sentences = []
        while (sentence_id + 1) * NUM_REFERENTS <= (number + 1) * NUM_SENTENCES:
            tokens = generator.choices(WORDS, k=generator.randint(1, 7))
            text = " ".join(tokens)
            sentences.append({"raw": text, "sent": text, "sent_id": sentence_id, "tokens": tokens})
            sentence_id += 1
        refs.append(
            {
                "ref_id": number,
                "ann_id": annotation["id"],
                "category_id": 1,
                "image_id": annotation["image_id"],
                "file_name": f"COCO_train2014_{annotation['image_id']:012}_{number}.jpg",
                "split": "train" if number % 10 < 8 else "val",
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    return refs


def write_photographs(folder: Path, names: list[str]) -> None:
    """Write one photograph and link it under every name."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / names[0], quality=50)
    for name in names[1:]:
        os.link(folder / names[0], folder / name)


def measure_prepare(root: Path) -> dict[str, float]:
    """Measure `tris prepare refcoco`."""
    start = time.perf_counter()
    prepare_refer(
        dataset="refcoco",
        source=root / "refcoco",
        images=root / "images",
        out=root / "index",
        settings=Settings(is_quiet=True),
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"seconds": seconds, "peak MB": peak}


def measure_open(root: Path) -> dict[str, float]:
    """Measure opening both splits and reading one row of each."""
    resident = resident_megabytes()
    start = time.perf_counter()
    indexes = [open_index(root / "index", split) for split in ("train", "val")]
    seconds = time.perf_counter() - start
    first = [index[len(index) // 2].sentences for index in indexes]
    return {
        "seconds": seconds,
        "adds MB": resident_megabytes() - resident,
        "expressions": sum(index.num_expressions for index in indexes) if first else 0,
    }


def measure_read(root: Path) -> dict[str, float]:
    """Measure reading every row, as an epoch does; pages of the file are shared, and counted."""
    resident = resident_megabytes()
    start = time.perf_counter()
    num_rows = 0
    for split in ("train", "val"):
        index = open_index(root / "index", split)
        num_rows += sum(1 for row in range(len(index)) if index[row].sentences)
    seconds = time.perf_counter() - start
    return {
        "microseconds per row": seconds / num_rows * 1e6,
        "adds MB": resident_megabytes() - resident,
    }


def measure_plain(root: Path) -> dict[str, float]:
    """Measure what REFER's API does: both files as Python objects, in every process."""
    resident = resident_megabytes()
    start = time.perf_counter()
    refs = pickle.loads((root / "refcoco" / "refs(unc).p").read_bytes())  # noqa: S301 - ours
    instances = json.loads((root / "refcoco" / "instances.json").read_bytes())
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    seconds = time.perf_counter() - start
    adds = resident_megabytes() - resident
    return {"seconds": seconds, "adds MB": adds, "objects": float(len(refs) + len(annotations))}


def resident_megabytes() -> float:
    """Return the resident memory of this process."""
    return float(psutil.Process().memory_info().rss) / 1e6


def in_own_process(measure: Callable[[Path], dict[str, float]], root: Path) -> dict[str, float]:
    """Run a measurement in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(measure, root).result()


if __name__ == "__main__":
    main()
