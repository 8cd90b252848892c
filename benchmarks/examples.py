"""What segmenters say, as a picture: sentences drawn by lot that went well, and that did not.

    python -m benchmarks.examples --index runs/synthetic/index --split test \
        --models TRIS=runs/synthetic/segmenter/model --out docs/examples.jpg

Of every type of sentence one that the first model finds (IoU above .5) and one that it does not
(below .1), drawn by --seed and not by taste; of sentences about several objects and about none
likewise. One row each: sentence, annotated mask (green), then every model's mask (orange) and peak.
"""

import argparse
import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.predictions import predict
from tris.data.images import read_photograph
from tris.data.index import Index, open_index
from tris.data.masks import decode_mask
from tris.metrics.evaluator import Prediction
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak
from tris.tracking.overlays import TRUTH_COLOUR, draw_overlay

FOUND, MISSED = 0.5, 0.1
SIDE, TEXT, GAP, HEAD = 192, 230, 8, 26
Key = tuple[int, int]
"""Referent and position of a sentence."""


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    index = open_index(arguments.index, arguments.split)
    models = dict(model.split("=", 1) for model in arguments.models)
    found = {
        name: {key_of(each): each for each in predict(Path(folder), index)}
        for name, folder in models.items()
    }
    chosen = choose(list(next(iter(found.values())).values()), random.Random(arguments.seed))
    rows = [[by_key[key_of(each)] for by_key in found.values()] for each in chosen]
    draw(rows, index, list(found)).save(arguments.out, quality=90)
    print(f"{arguments.out}: {len(rows)} sentences of {len(next(iter(found.values())))}")


def key_of(prediction: Prediction) -> Key:
    """Return what names a sentence."""
    return prediction.referent.referent_id, prediction.position


def choose(predictions: Sequence[Prediction], lot: random.Random) -> list[Prediction]:
    """Return, of every type, one sentence that went well and one that did not, where there are."""
    kinds: dict[str, tuple[list[Prediction], list[Prediction]]] = {}
    for each in predictions:
        well, badly = kinds.setdefault(kind_of(each), ([], []))
        iou = score(each)
        if iou > FOUND:
            well.append(each)
        elif iou < MISSED:
            badly.append(each)
    return [lot.choice(some) for kind in sorted(kinds) for some in kinds[kind] if some]


def kind_of(prediction: Prediction) -> str:
    """Return the type of a sentence; where the data set has none, how much it means."""
    referent = prediction.referent
    if referent.expression_types:
        return referent.expression_types[prediction.position]
    if referent.is_no_target:
        return "nothing"
    return "several objects" if len(referent.annotation_ids) > 1 else "one object"


def mask_of(prediction: Prediction) -> np.ndarray:
    """Return the predicted mask; empty where the network says that nothing fits."""
    mask = mask_from_response(prediction.response).astype(np.uint8)
    return np.zeros_like(mask) if prediction.no_target else mask


def truth_of(prediction: Prediction) -> np.ndarray:
    """Return the annotated mask; empty where the sentence means nothing."""
    rle = prediction.referent.mask
    return np.zeros(prediction.response.shape, np.uint8) if rle is None else decode_mask(rle)


def score(prediction: Prediction) -> float:
    """Return the IoU; 1 where both masks are empty."""
    found, truth = mask_of(prediction) == 1, truth_of(prediction) == 1
    union = int((found | truth).sum())
    return float((found & truth).sum() / union) if union else 1.0


def draw(rows: Sequence[Sequence[Prediction]], index: Index, names: Sequence[str]) -> Image.Image:
    """Return the picture, a row per sentence."""
    titles = ["annotated", *names]
    width = TEXT + len(titles) * (SIDE + GAP)
    sheet = Image.new("RGB", (width, HEAD + len(rows) * (SIDE + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, title in enumerate(titles):
        pen.text((TEXT + column * (SIDE + GAP), 4), title, "black", font)
    for number, row in enumerate(rows):
        top, first = HEAD + number * (SIDE + GAP), row[0]
        sentence = first.referent.sentences[first.position]
        lines = [*textwrap.wrap(f'"{sentence}"', 26), "", f"({kind_of(first)})"]
        pen.multiline_text((6, top + 20), "\n".join(lines), "black", font, spacing=5)
        photograph = read_photograph(
            index.image_path(first.referent), is_turned=first.referent.is_turned
        )
        pixels = np.asarray(photograph.convert("RGB"))
        tiles = [tile(pixels, truth_of(first), None, is_truth=True)]
        for each in row:
            peak = None if each.no_target else find_peak(each.response)
            tiles.append(tile(pixels, mask_of(each), peak, is_truth=False))
        for column, drawn in enumerate(tiles):
            left = TEXT + column * (SIDE + GAP)
            sheet.paste(drawn, (left, top))
            if column and row[column - 1].no_target:
                pen.text(
                    (left + 6, top + 6),
                    "nothing fits",
                    "white",
                    font,
                    stroke_width=2,
                    stroke_fill="black",
                )
    return sheet


def tile(
    pixels: np.ndarray, mask: np.ndarray, peak: tuple[int, int] | None, *, is_truth: bool
) -> Image.Image:
    """Return one overlay, its longer side `SIDE` pixels."""
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    size = (round(scale * width), round(scale * height))
    large = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    large_mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    where = None if peak is None else (round(scale * peak[0]), round(scale * peak[1]))
    colour = {"color": TRUTH_COLOUR} if is_truth else {}
    return Image.fromarray(draw_overlay(large, large_mask, peak=where, alpha=0.15, **colour))


if __name__ == "__main__":
    main()
