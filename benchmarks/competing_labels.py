"""Which settings of merging and competition suit a data set? Chosen on its validation split.

    python benchmarks/competing_labels.py --run runs/synthetic                      labels, round 1
    python benchmarks/competing_labels.py --run runs/synthetic --maps segmenter     later rounds
    python benchmarks/competing_labels.py --run runs/synthetic --maps sentences     CRF at test

Takes the networks of a run and a sample of the images of its validation split, whose masks score
the labels; no training image and no training mask is looked at. One field after the other is
varied, and the best value kept (a coordinate search from `EMBEDDED_LABELS`; give --competition
image to choose the merging for labels that compete); figures are the mean IoU over referents, of
images of even number, of odd number, and all: a gain that is not in both halves is noise. One
thread.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from tris.batch import Batch
from tris.data.images import read_photograph
from tris.data.index import Index, Referent, open_index
from tris.data.loader import build_loader
from tris.data.masks import decode_mask
from tris.data.plan import evaluation_batches
from tris.data.samples import ExpressionDataset
from tris.data.tokens import build_tokenizer
from tris.encoders.clip import ClipEncoder
from tris.model_directory import PretrainedModel
from tris.pseudo.averaging import average_maps
from tris.pseudo.contest import Contest
from tris.pseudo.label import EMBEDDED_LABELS, LabelConfig
from tris.pseudo.label_image import label_image
from tris.pseudo.merging import cannot_tell_apart
from tris.pseudo.prms import PrmsConfig, batched_map_similarity
from tris.pseudo.rivals import find_kinship, separate_contests
from tris.pseudo.selection import (
    ChosenMap,
    ImageMaps,
    contests_of,
    group_rows,
    merge_maps,
    number_rows,
    weigh_maps,
)
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNet
from tris.segmenters.contract import Segmenter

ACTIVATIONS = ("sigmoid", "relu")


@dataclass(frozen=True)
class Settings:
    """What is chosen.

    Attributes:
        selection: From several maps to one.
        label: From maps to labels.
    """

    selection: PrmsConfig
    label: LabelConfig


@dataclass(frozen=True)
class Case:
    """One image, as far as it does not depend on settings.

    Attributes:
        referents: With masks.
        image: The photograph.
        maps: Makes the maps under some settings.
    """

    referents: list[Referent]
    image: np.ndarray
    maps: Callable[[Settings], ImageMaps]


Change = Callable[[Settings, Any], Settings]


def change_crf(name: str) -> Change:
    """Return a function that sets a field of the CRF, of the one alone and the common one."""

    def change(old: Settings, value: object) -> Settings:
        crf = replace(old.label.crf, **{name: value})  # type: ignore[arg-type]
        common = replace(old.label.competing.crf, **{name: value})  # type: ignore[arg-type]
        competing = replace(old.label.competing, crf=common)
        return replace(old, label=replace(old.label, crf=crf, competing=competing))

    return change


def set_merging(old: Settings, value: tuple[str, str, float, float]) -> Settings:
    """Set activation, method, temperature and weight of the rival."""
    activation, method, temperature, rival_weight = value
    changes: dict[str, Any] = {
        "activation": activation, "method": method, "temperature": temperature,
        "rival_weight": rival_weight,
    }  # fmt: skip
    return replace(old, selection=replace(old.selection, **changes))


def set_competition(old: Settings, value: tuple[str, float]) -> Settings:
    """Set competition and the background's logit."""
    competition, logit = value
    changes: dict[str, Any] = {"competition": competition}
    competing = replace(old.label.competing, background_logit=logit)
    return replace(old, label=replace(old.label, competing=competing, **changes))


MERGING: dict[str, tuple[Change, Sequence[Any]]] = {
    "merging": (
        set_merging,
        [(a, "prms", 0.1, 1.0) for a in ACTIVATIONS]
        + [("sigmoid", "margin", t, 1.0) for t in (0.02, 0.05, 0.1, 0.2)]
        + [("sigmoid", "margin", t, 0.0) for t in (0.05, 0.1, 0.2)]
        + [("sigmoid", "margin", 0.1, 0.5), ("relu", "margin", 0.1, 1.0)],
    ),
}
COMPETITION: dict[str, tuple[Change, Sequence[Any]]] = {
    "competition": (
        set_competition,
        [("none", 0.0), *(("image", b) for b in (-1.5, -1.0, -0.5, 0.0, 0.5))],
    ),
}
KERNELS: dict[str, tuple[Change, Sequence[Any]]] = {
    "bilateral_srgb": (change_crf("bilateral_srgb"), (12.0, 16.0, 20.0, 26.0, 34.0, 44.0)),
    "bilateral_sxy": (change_crf("bilateral_sxy"), (11.0, 14.0, 18.0, 24.0)),
    "bilateral_compat": (change_crf("bilateral_compat"), (7.0, 10.0, 14.0, 20.0)),
    "steepness": (change_crf("steepness"), (0.7, 1.0, 1.5)),
    "num_iterations": (change_crf("num_iterations"), (5, 10)),
}
SEARCH = {
    "stage1": MERGING | COMPETITION | KERNELS,
    "segmenter": COMPETITION | KERNELS,
    "sentences": KERNELS,
}


def numbered_batches(
    network: PretrainedModel, index: Index, count: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield the batches of ``count`` images, spread over the split."""
    spec = network.input_spec
    dataset = ExpressionDataset(index, spec, build_tokenizer(spec.tokenizer, assets=network.assets))
    images = evaluation_batches(index, images_per_batch=1)
    chosen = images[:: max(1, len(images) // count)][:count]
    yield from zip(chosen, build_loader(dataset, chosen), strict=True)


def photograph_of(index: Index, referent: Referent) -> np.ndarray:
    """Return the pixels."""
    opened = read_photograph(index.image_path(referent), is_turned=referent.is_turned)
    return np.array(opened, np.uint8)


def stage1_cases(run: Path, index: Index, count: int) -> Iterator[Case]:
    """Yield cases whose maps come from stage 1 and its judge."""
    network = ResponseNet.from_pretrained(run / "response" / "model")
    judge = ClipEncoder.from_pretrained(run / "clip")
    for numbers, batch in numbered_batches(network, index, count):
        groups = group_rows([index.expression_row(number)[0] for number in numbers])
        positions = [index.expression_row(number)[1] for number in numbers]
        referents = [index[row] for row in groups]
        places = number_rows(groups, len(numbers))
        with torch.inference_mode():
            logits = upsample(network(batch).response_logits.float(), batch.images.shape[-2:])
            similarities = {
                activation: judge_maps(judge, logits, batch, activation)
                for activation in ACTIVATIONS
            }
        yield Case(
            referents,
            photograph_of(index, referents[0]),
            weighing(referents, positions, places, logits, similarities),
        )


def judge_maps(judge: ClipEncoder, logits: Tensor, batch: Batch, activation: str) -> Tensor:
    """Return the similarity of all maps and sentences of one image."""
    config: dict[str, Any] = {"activation": activation}
    (similarity,) = batched_map_similarity(
        logits,
        batch.images,
        judge.embed_texts(batch.token_ids).float(),
        image_index=batch.image_index,
        maps_per_referent=[len(logits)],
        embed_images=judge.embed_images,
        image_size=judge.input_spec.image_size,
        config=PrmsConfig(**config),
    )
    return similarity.float()


def weighing(
    referents: list[Referent],
    positions: list[int],
    places: Tensor,
    logits: Tensor,
    similarities: dict[str, Tensor],
) -> Callable[[Settings], ImageMaps]:
    """Return a function that merges the maps under some settings."""

    def maps(settings: Settings) -> ImageMaps:
        similarity = similarities[settings.selection.activation]
        competing = settings.label.competing
        kinship = find_kinship(referents, competing)
        picks = weigh_maps(similarity, places, kinship, referents, config=settings.selection)
        chosen = [
            ChosenMap(each, positions[pick.row], pick.score, merge_maps(logits, pick).numpy())
            for each, pick in zip(referents, picks, strict=True)
        ]
        alike = cannot_tell_apart(similarity, places, tolerance=competing.judge_tolerance)
        return ImageMaps(chosen, contests_of(chosen, kinship, alike.numpy(), settings.label))

    return maps


def segmenter_cases(run: Path, index: Index, count: int, *, alone: bool) -> Iterator[Case]:
    """Yield cases whose maps come from the run's segmenter.

    Args:
        run: The run.
        index: The split.
        count: Images.
        alone: Whether each sentence stands for itself, as at test.
    """
    network = Segmenter.from_pretrained(run / "segmenter" / "model")
    for numbers, batch in numbered_batches(network, index, count):
        rows = [index.expression_row(number) for number in numbers]
        with torch.inference_mode():
            logits = network(batch).mask_logits.float()
        if alone:
            chosen = [
                ChosenMap(index[row], position, 0.0, each.numpy())
                for (row, position), each in zip(rows, logits, strict=True)
            ]
            image = photograph_of(index, chosen[0].referent)
            maps = ImageMaps(chosen, separate_contests(len(chosen)))
            yield Case([each.referent for each in chosen], image, lambda _, maps=maps: maps)
        else:
            referents = [index[row] for row in dict.fromkeys(row for row, _ in rows)]
            yield Case(
                referents,
                photograph_of(index, referents[0]),
                averaging(numbers, batch, logits, index),
            )


def averaging(
    numbers: list[int], batch: Batch, logits: Tensor, index: Index
) -> Callable[[Settings], ImageMaps]:
    """Return a function that averages the maps under some settings."""

    def maps(settings: Settings) -> ImageMaps:
        images = average_maps(lambda _: logits, [(numbers, batch)], index, label=settings.label)
        return next(images)

    return maps


def score(cases: Sequence[Case], settings: Settings) -> np.ndarray:
    """Return the IoU of every referent's label, image after image."""
    values = []
    for case in cases:
        image = case.maps(settings)
        maps = np.stack([each.response_logits for each in image.chosen])
        labels = label_image(maps, case.image, image.contests, settings.label)
        for place, referent in enumerate(case.referents):
            assert referent.mask is not None, "validation splits have masks"
            truth, label = decode_mask(referent.mask) == 1, labels[place].label
            assert label is not None, "labels are kept, whatever they are"
            union = np.count_nonzero(truth | (label == 1))
            values.append(np.count_nonzero(truth & (label == 1)) / max(union, 1))
    return np.array(values)


def count_joined(cases: Sequence[Case], settings: Settings) -> int:
    """Return how many referents share a class with another one."""
    contests: list[Contest] = [each for case in cases for each in case.maps(settings).contests]
    members = [group for contest in contests for group in contest.classes[: contest.num_labelled]]
    return sum(len(group) for group in members if len(group) > 1)


def search(
    cases: Sequence[Case], settings: Settings, fields: dict[str, tuple[Change, Sequence[Any]]]
) -> Settings:
    """Vary one field after the other; what is best so far stays unless a value beats it."""
    is_odd = np.array([n % 2 == 1 for n, case in enumerate(cases) for _ in case.referents])
    print("| field | value | even images | odd images | all | ms per image |")
    print("|---|---|---|---|---|---|")

    def measure(candidate: Settings, name: str, value: object) -> float:
        start = time.perf_counter()
        iou = score(cases, candidate)
        milliseconds = 1000 * (time.perf_counter() - start) / len(cases)
        halves = [100 * part.mean() for part in (iou[~is_odd], iou[is_odd], iou)]
        cells = " | ".join(f"{each:.1f}" for each in halves)
        print(f"| {name} | {value} | {cells} | {milliseconds:.0f} |", flush=True)
        return float(iou.mean())

    best, best_iou = settings, measure(settings, "as given", "")
    for name, (change, values) in fields.items():
        start = best
        for value in values:
            candidate = change(start, value)
            iou = measure(candidate, name, value)
            if iou > best_iou:
                best, best_iou = candidate, iou
    return best


def main() -> None:
    """Print the table and what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--maps", choices=sorted(SEARCH), default="stage1")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--fields", nargs="+", help="of the search; all where left out")
    parser.add_argument("--competition", choices=["none", "image"], default="none", help="at first")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    index = open_index(arguments.run / "index", arguments.split)
    if arguments.maps == "stage1":
        cases = list(stage1_cases(arguments.run, index, arguments.images))
    else:
        alone = arguments.maps == "sentences"
        cases = list(segmenter_cases(arguments.run, index, arguments.images, alone=alone))
    label = replace(EMBEDDED_LABELS, degenerate="keep", competition=arguments.competition)
    settings = Settings(PrmsConfig(activation="sigmoid"), label)
    fields = SEARCH[arguments.maps]
    fields = {name: fields[name] for name in arguments.fields or fields}
    print(f"{len(cases)} images, {sum(len(case.referents) for case in cases)} referents, mean IoU")
    chosen = search(cases, settings, fields)
    print(f"\njoined as the same object: {count_joined(cases, chosen)} referents")
    for name, value in dataclasses.asdict(chosen).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
