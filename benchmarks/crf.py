"""Which dense-CRF parameters help on real photographs?

    python benchmarks/crf.py --data DIR            the table of docs/pseudo_labels.md
    python benchmarks/crf.py --data DIR --search   neighbours of the default, on the first half

``DIR`` is in RefCOCO's layout (``refcoco/instances.json``, ``images/train2014``). Every annotated
mask is averaged to a small map and upsampled again, as if a network had found the object at its
own resolution; the question is how much of the mask's shape the photograph gives back.

Parameters are chosen on the photographs of even number, the figures of the others are the honest
ones. The yardstick is the best single threshold of the same maps, chosen on the masks that it is
reported for: harder to beat than any threshold a text-only run could know.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tris.data.masks import decode_mask, polygons_to_rle, resize_mask
from tris.pseudo.crf import PUBLISHED_CRF, CrfConfig
from tris.pseudo.label import LabelConfig, normalise_map
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.rivals import separate_contests

THRESHOLDS = [round(value, 2) for value in np.arange(0.2, 0.7, 0.02).tolist()]
DEFAULT = LabelConfig(degenerate="keep")


class Sample(NamedTuple):
    """One mask.

    Attributes:
        photograph: Number of the photograph.
        image: RGB.
        mask: 0 or 1, of the same size.
        coarse: The mask averaged to a small map, in [0, 1].
    """

    photograph: int
    image: np.ndarray
    mask: np.ndarray
    coarse: np.ndarray


def with_crf(threshold: float | None = None, **changes: object) -> LabelConfig:
    """Return the default label rule with another CRF."""
    crf = replace(DEFAULT.crf, **changes)  # type: ignore[arg-type]
    return replace(DEFAULT, crf=crf, foreground_threshold=threshold or DEFAULT.foreground_threshold)


SCOUT = CrfConfig(
    steepness=8,
    gaussian_sxy=3,
    gaussian_compat=3,
    bilateral_sxy=10,
    bilateral_srgb=10,
    bilateral_compat=5,
)
CANDIDATES = {
    "published, hard labels at .3": replace(DEFAULT, crf=PUBLISHED_CRF, foreground_threshold=0.3),
    "published, hard labels at .45": replace(DEFAULT, crf=PUBLISHED_CRF, foreground_threshold=0.45),
    "published kernels, soft unary": with_crf(
        gaussian_sxy=3, bilateral_sxy=50, bilateral_srgb=5, bilateral_compat=10
    ),
    "scout (sxy 10, srgb 10, compat 5)": replace(DEFAULT, crf=SCOUT, foreground_threshold=0.45),
    "default": DEFAULT,
}
NEIGHBOURS = {"default": DEFAULT} | {
    f"{name} {value:g}": with_crf(**{name: value})
    for name, values in {
        "threshold": (0.38, 0.4, 0.44, 0.46),
        "steepness": (7, 14, 20),
        "gaussian_sxy": (1, 3),
        "gaussian_compat": (0, 1, 6),
        "bilateral_sxy": (10, 15, 28, 40),
        "bilateral_srgb": (4, 5, 8, 10),
        "bilateral_compat": (3, 4, 8, 12),
        "num_iterations": (5, 20),
    }.items()
    for value in values
}


def load_samples(data: Path, *, size: int | None, grid: int) -> list[Sample]:
    """Read every annotation; ``size`` squashes photograph and mask, None leaves them."""
    instances = json.loads((data / "refcoco" / "instances.json").read_text())
    entries = {entry["id"]: entry for entry in instances["images"]}
    numbers = {image_id: number for number, image_id in enumerate(sorted(entries))}
    images: dict[int, np.ndarray] = {}
    samples = []
    for annotation in instances["annotations"]:
        entry = entries[annotation["image_id"]]
        height, width = entry["height"], entry["width"]
        mask = decode_mask(polygons_to_rle(annotation["segmentation"], height, width))
        if entry["id"] not in images:
            images[entry["id"]] = read_image(
                data / "images" / "train2014" / entry["file_name"], size
            )
        coarse = cv2.resize(mask.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
        if size:
            mask = resize_mask(mask, (size, size))
        samples.append(Sample(numbers[entry["id"]], images[entry["id"]], mask, coarse))
    return samples


def read_image(path: Path, size: int | None) -> np.ndarray:
    """Return the photograph, RGB."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) if size else image


def intersection_over_union(prediction: np.ndarray, mask: np.ndarray) -> float:
    """Return the IoU of two masks."""
    prediction, mask = prediction == 1, mask == 1
    union = np.count_nonzero(prediction | mask)
    return np.count_nonzero(prediction & mask) / union if union else 1.0


def sweep_thresholds(samples: list[Sample], *, is_normalised: bool) -> np.ndarray:
    """Return the IoU per mask (rows) and threshold (columns) of the plain upsampled map."""
    rows = []
    for sample in samples:
        height, width = sample.mask.shape
        upsampled = cv2.resize(sample.coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        if is_normalised:
            upsampled = normalise_map(upsampled, "max")
        rows.append(
            [intersection_over_union(upsampled > value, sample.mask) for value in THRESHOLDS]
        )
    return np.array(rows)


def score_config(samples: list[Sample], config: LabelConfig, num_workers: int) -> np.ndarray:
    """Return the IoU of the refined label per mask."""
    tasks = (
        ImageTask(
            sample.mask,
            sample.coarse[None],
            np.ascontiguousarray(sample.image),
            separate_contests(1),
        )
        for sample in samples
    )
    with LabelPool(config, num_workers) as pool:
        return np.array(
            [
                intersection_over_union(label, mask)
                for mask, results in pool.refine_images(tasks)
                if (label := results[0].label) is not None
            ]
        )


def print_row(name: str, values: np.ndarray, is_odd: np.ndarray, seconds: float) -> None:
    """Print the mean IoU of chosen-on half, held-out half and all."""
    halves = [values[~is_odd].mean(), values[is_odd].mean(), values.mean()]
    cells = " | ".join(f"{100 * value:5.1f}" for value in halves)
    print(f"| {name} | {cells} | {1000 * seconds / len(values):.0f} |", flush=True)


def best_plain(samples: list[Sample], is_odd: np.ndarray, *, is_normalised: bool) -> None:
    """Print the best threshold of each column, each chosen on that column's own masks."""
    table = sweep_thresholds(samples, is_normalised=is_normalised)
    pick: Callable[[np.ndarray], tuple[float, float]] = lambda rows: (  # noqa: E731 - two lines
        float(rows.mean(0).max()),
        THRESHOLDS[int(rows.mean(0).argmax())],
    )
    cells = [pick(rows) for rows in (table[~is_odd], table[is_odd], table)]
    what = "map / maximum" if is_normalised else "map as it is"
    print(
        f"| best plain threshold, {what} | "
        + " | ".join(f"{100 * value:.1f} (at {threshold})" for value, threshold in cells)
        + " | 0 |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=320, help="pixels; 0 = as photographed")
    parser.add_argument("--grid", type=int, default=10, help="cells per side of the small map")
    parser.add_argument("--limit", type=int, default=0, help="masks, chosen at random; 0 = all")
    parser.add_argument("--search", action="store_true", help="neighbours, even photographs only")
    parser.add_argument("--only", default="", help="candidates whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    samples = load_samples(arguments.data, size=arguments.size or None, grid=arguments.grid)
    if arguments.search:
        samples = [sample for sample in samples if sample.photograph % 2 == 0]
    if arguments.limit:
        order = np.random.default_rng(0).permutation(len(samples))[: arguments.limit]
        samples = [samples[index] for index in order]
    is_odd = np.array([sample.photograph % 2 == 1 for sample in samples])
    if arguments.search:
        is_odd[::2] = True
        print("columns: two halves of the even photographs' masks, and both")
    print(f"{len(samples)} masks, mean IoU in percent")
    print("| labels | chosen on | held out | all | ms |\n|---|---|---|---|---|")
    for is_normalised in (False, True):
        best_plain(samples, is_odd, is_normalised=is_normalised)
    for name, config in (NEIGHBOURS if arguments.search else CANDIDATES).items():
        if arguments.only in name:
            start = time.perf_counter()
            values = score_config(samples, config, arguments.workers)
            print_row(name, values, is_odd, time.perf_counter() - start)


if __name__ == "__main__":
    main()
