"""How much faster are labels with two processes than with one?

    python benchmarks/label_pool.py

The same tasks, on an otherwise idle machine, with 1 and 2 (or ``--workers``) processes of one
thread each, in turns; starting the workers is not counted, sending images to them is.
"""

import argparse
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from tris.pseudo.label import LabelConfig
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.rivals import separate_contests


def make_tasks(count: int, size: int) -> list[ImageTask]:
    """Return noise with the smoothness of photographs, and one blob per map."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:10, :10]
    tasks = []
    for number in range(count):
        noise = gaussian_filter(generator.normal(size=(size, size, 3)), (4, 4, 0))
        image = np.clip(128 + 400 * noise, 0, 255).astype(np.uint8)
        y, x = generator.uniform(2, 7, 2)
        blob = 3 - 0.7 * np.hypot(rows - y, columns - x)
        maps = blob.astype(np.float32)[None]
        tasks.append(ImageTask(number, maps, image, separate_contests(1)))
    return tasks


def main() -> None:
    """Print labels per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--labels", type=int, default=40)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tasks = make_tasks(arguments.labels, arguments.size)
    best = {1: float("inf"), arguments.workers: float("inf")}
    with LabelPool(LabelConfig(), 1) as one, LabelPool(LabelConfig(), arguments.workers) as many:
        for _ in range(arguments.rounds):
            for pool in (one, many):
                start = time.perf_counter()
                labels = [found[0].label for _, found in pool.refine_images(tasks)]
                seconds = time.perf_counter() - start
                assert len(labels) == len(tasks)
                best[pool.num_workers] = min(best[pool.num_workers], seconds)
    for workers, seconds in best.items():
        print(f"{workers} workers: {len(tasks) / seconds:.1f} labels/s")
    print(f"times as fast: {best[1] / best[arguments.workers]:.2f}")


if __name__ == "__main__":
    main()
