"""Images of a run with the maps that labels are made from, for the search of label settings.

A case keeps what does not depend on settings, so that a search asks each network once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from stages.loading import make_dataset
from stages.rounds import earlier_job
from stages.setup import (
    Folders,
    Stage,
    find_stage1,
    load_judge,
    segmenter_job,
    use_attention,
    with_own_clip,
)
from stages.validation import IMAGES_PER_BATCH
from tris.batch import Batch
from tris.config import ExperimentConfig, read_experiment
from tris.data.images import read_photograph
from tris.data.index import Index, Referent, open_index
from tris.data.loader import build_loader
from tris.data.plan import evaluation_batches
from tris.data.tokens import build_tokenizer
from tris.metrics.evaluator import predict_split
from tris.model_directory import FASTEST_LAYOUT, PretrainedModel
from tris.pseudo.averaging import ask_images, average_in_image
from tris.pseudo.label import LabelConfig, PseudoLabel
from tris.pseudo.label_image import label_image
from tris.pseudo.prms import PrmsConfig
from tris.pseudo.rivals import separate_contests
from tris.pseudo.selection import (
    ChosenMap,
    ImageMaps,
    JudgedImage,
    choose_in_image,
    judge_images,
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


def open_run(run: Path) -> Stage:
    """Return a run's experiment, as its last stage that did something was told.

    Nothing is written.

    Raises:
        InputError: If there is none.
    """
    config = read_experiment(run / "config.json")
    return Stage(config, Folders(run), None, Accelerator(cpu=True))


def default_job(config: ExperimentConfig[Any], maps: str) -> str:
    """Return the segmenter that labelled for the last round; of sentences the last round's own."""
    last, rounds = segmenter_job(config), config.segmenter.rounds
    return earlier_job(last, rounds - 1) if maps == "segmenter" and rounds > 1 else last


def settings_of(config: ExperimentConfig[Any], maps: str) -> Settings:
    """Return what a run makes labels with, of maps of a kind."""
    rules = {
        "stage1": config.labels.label,
        "segmenter": config.self_training.label,
        "sentences": config.evaluation.refinement,
    }
    return Settings(config.labels.selection, rules[maps])


def make_cases(
    stage: Stage, maps: str, *, job: str | None, split: str, count: int
) -> Iterator[Case]:
    """Yield cases of a run.

    Args:
        stage: The run.
        maps: ``stage1``, ``segmenter`` (means over a referent's sentences) or ``sentences``.
        job: Folder of the segmenter in the run; None = `default_job`.
        split: Of the index.
        count: Images.
    """
    index = open_index(stage.folders.index, split)
    if maps == "stage1":
        yield from stage1_cases(stage, index, count)
        return
    job = job or default_job(stage.config, maps)
    print(f"maps of {stage.folders.model(job)}")
    make = segmenter_cases if maps == "segmenter" else sentence_cases
    yield from make(stage, job, index, count)


def numbered_batches(
    stage: Stage, network: PretrainedModel, index: Index, count: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield ``count`` images, spread over the split, in batches as the stages have them."""
    spec = network.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets=network.assets)
    images = evaluation_batches(index, images_per_batch=1)
    chosen = images[:: max(1, len(images) // count)][:count]
    starts = range(0, len(chosen), IMAGES_PER_BATCH)
    batches = [[n for image in chosen[i : i + IMAGES_PER_BATCH] for n in image] for i in starts]
    loader = build_loader(make_dataset(stage, index, spec, tokenizer), batches)
    yield from zip(batches, loader, strict=True)


def photograph_of(index: Index, referent: Referent) -> np.ndarray:
    """Return the pixels."""
    opened = read_photograph(index.image_path(referent), is_turned=referent.is_turned)
    return np.array(opened, np.uint8)


def referents_of(index: Index, rows: Iterable[int]) -> list[Referent]:
    """Return who is spoken of, each once, given the row of each sentence."""
    return [index[row] for row in dict.fromkeys(rows)]


def stage1_cases(stage: Stage, index: Index, count: int) -> Iterator[Case]:
    """Yield cases whose maps come from stage 1 and its judge."""
    network = ResponseNet.from_pretrained(find_stage1(stage)).to(memory_format=FASTEST_LAYOUT)
    judge = load_judge(with_own_clip(stage)).to(memory_format=FASTEST_LAYOUT)
    configs = {
        activation: replace(stage.config.labels.selection, activation=activation)
        for activation in ACTIVATIONS
    }
    for numbers, batch in numbered_batches(stage, network, index, count):
        with torch.inference_mode():
            logits = upsample(network(batch).response_logits.float(), batch.images.shape[-2:])
            judged = [
                judge_images(logits, numbers, batch, judge, index, config=config)
                for config in configs.values()
            ]
        for image in zip(*judged, strict=True):
            referents = referents_of(index, (row for row, _ in image[0].places))
            maps = choosing(dict(zip(configs, image, strict=True)), index)
            yield Case(referents, photograph_of(index, referents[0]), maps)


def choosing(judged: dict[str, JudgedImage], index: Index) -> Callable[[Settings], ImageMaps]:
    """Return a function that chooses or merges the maps under some settings.

    Args:
        judged: One image, by the activation that it was judged under.
        index: The split.
    """

    def maps(settings: Settings) -> ImageMaps:
        image = judged[settings.selection.activation]
        return choose_in_image(image, index, selection=settings.selection, label=settings.label)

    return maps


def segmenter_cases(stage: Stage, job: str, index: Index, count: int) -> Iterator[Case]:
    """Yield cases whose maps are means of what a segmenter of the run says to all sentences.

    As in `stages/relabel.py`, its attention is that of the training.
    """
    use_attention(stage.config.segmenter.training)
    network = Segmenter.from_pretrained(stage.folders.model(job)).to(memory_format=FASTEST_LAYOUT)
    batches = numbered_batches(stage, network, index, count)
    for numbers, probabilities in ask_images(lambda batch: network(batch).mask_logits, batches):
        referents = referents_of(index, (index.expression_row(n)[0] for n in numbers))
        maps = averaging(probabilities, numbers, index)
        yield Case(referents, photograph_of(index, referents[0]), maps)


def averaging(
    probabilities: np.ndarray, numbers: list[int], index: Index
) -> Callable[[Settings], ImageMaps]:
    """Return a function that averages the maps under some settings."""

    def maps(settings: Settings) -> ImageMaps:
        return average_in_image(probabilities, numbers, index, label=settings.label)

    return maps


def sentence_cases(stage: Stage, job: str, index: Index, count: int) -> Iterator[Case]:
    """Yield cases in which each sentence of a segmenter stands for itself, as at test."""
    network = Segmenter.from_pretrained(stage.folders.model(job)).to(memory_format=FASTEST_LAYOUT)
    predictions = predict_split(network, numbered_batches(stage, network, index, count), index)
    for _, of_image in groupby(predictions, key=lambda each: each.referent.file_name):
        chosen = [ChosenMap(each.referent, each.position, 0.0, each.response) for each in of_image]
        maps = ImageMaps(chosen, separate_contests(len(chosen)))
        photograph = photograph_of(index, chosen[0].referent)
        yield Case([each.referent for each in chosen], photograph, lambda _, maps=maps: maps)


def label_case(case: Case, settings: Settings) -> dict[int, PseudoLabel]:
    """Return the label of every referent of an image, by its place."""
    image = case.maps(settings)
    maps = np.stack([each.response_logits for each in image.chosen])
    return label_image(maps, case.image, image.contests, settings.label)
