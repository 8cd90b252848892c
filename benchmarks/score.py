"""How fast `tris score` is: 10,000 predictions at 480 x 640, given as RLE, on one core.

    python benchmarks/score.py               the full size (asked for: <= 20 s)
    python benchmarks/score.py --scale 0.05  small, for CI

Masks are blobs with a ragged rim and islands, as upsampled low-resolution logits give: several
hundred runs and a few dozen contours each. Reported: seconds, predictions per second, and how much
memory grew between the first tenth of the predictions and the last.
"""

import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import tyro
from PIL import Image

from tris.data.index import IndexWriter, Referent, open_index
from tris.data.masks import encode_mask, rle_to_box
from tris.metrics.predictions import read_predictions
from tris.metrics.protocols import PROTOCOLS
from tris.metrics.scorer import Scorer

HEIGHT, WIDTH = 480, 640
NUM_PREDICTIONS = 10_000
SENTENCES_PER_REFERENT = 3
NUM_SHAPES = 200


def main(scale: float = 1.0, protocol: str = "standard", resolution: int | None = None) -> None:
    """Make an index and predictions, score them, print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_predictions = write_inputs(folder, num_referents=int(scale * NUM_PREDICTIONS) // 3 + 1)
        scorer = Scorer(
            open_index(folder / "index", "val"),
            protocol=PROTOCOLS[protocol],
            resolution=resolution,
        )
        process, memory = psutil.Process(), []
        start = time.perf_counter()
        for number, prediction in read_predictions(folder / "predictions.jsonl"):
            scorer.add(prediction)
            if number % max(num_predictions // 10, 1) == 0:
                memory.append(process.memory_info().rss)
        metrics = scorer.metrics()
        seconds = time.perf_counter() - start
    print(f"protocol {protocol}, {num_predictions} predictions of {HEIGHT} x {WIDTH} pixels")
    print(f"{seconds:.2f} s, {num_predictions / seconds:.0f} per second")
    print(f"memory grew by {(memory[-1] - memory[0]) / 2**20:.1f} MiB after the first tenth")
    print(f"mean_iou {metrics['mean_iou']:.4f}, overall_iou {metrics['overall_iou']:.4f}")


def write_inputs(folder: Path, *, num_referents: int) -> int:
    """Write an index and one prediction per expression; return how many there are."""
    random = np.random.default_rng(0)
    shapes = [encode_mask(_blob(random)) for _ in range(NUM_SHAPES)]
    images = folder / "images"
    images.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "0.jpg")
    with IndexWriter(folder / "index", dataset="benchmark", images=images) as writer:
        for referent_id in range(num_referents):
            writer.add("val", _referent(referent_id, shapes[random.integers(NUM_SHAPES)]))
    num_predictions = num_referents * SENTENCES_PER_REFERENT
    with (folder / "predictions.jsonl").open("w") as lines:
        for expression_id in range(num_predictions):
            line = {
                "expression_id": expression_id,
                "ref_id": expression_id // SENTENCES_PER_REFERENT,
                "mask": shapes[random.integers(NUM_SHAPES)],
                "point": [int(random.integers(WIDTH)), int(random.integers(HEIGHT))],
            }
            lines.write(json.dumps(line) + "\n")
    return num_predictions


def _referent(referent_id: int, mask: dict[str, object]) -> Referent:
    first = referent_id * SENTENCES_PER_REFERENT
    sentences = ("the blob",) * SENTENCES_PER_REFERENT
    box = rle_to_box(mask)
    return Referent(
        referent_id=referent_id,
        image_id=referent_id,
        file_name="0.jpg",
        height=HEIGHT,
        width=WIDTH,
        expression_ids=tuple(range(first, first + SENTENCES_PER_REFERENT)),
        sentences=sentences,
        raw_sentences=sentences,
        annotation_ids=(referent_id,),
        mask=mask,
        boxes=() if box is None else (box,),
    )


def _blob(random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre_y, centre_x = random.uniform(100, 380), random.uniform(100, 540)
    distance = np.hypot((y - centre_y) / random.uniform(40, 200), (x - centre_x) / 120)
    coarse = random.normal(0, 0.2, (HEIGHT // 16, WIDTH // 16))
    return distance + cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) < 1


if __name__ == "__main__":
    tyro.cli(main)
