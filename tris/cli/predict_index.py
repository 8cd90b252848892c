"""`tris predict --index`: predictions for a whole split, as `tris score` reads them."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tris.batch import InputSpec
from tris.cli.inference import MaskNetwork, respond
from tris.data.groups import group_evaluation_batches
from tris.data.index import Index
from tris.data.loader import build_loader
from tris.data.plan import Item, evaluation_batches
from tris.data.samples import ExpressionDataset
from tris.data.tokens import Tokenizer
from tris.metrics.evaluator import Prediction, predict_split, to_line
from tris.metrics.refinement import refine_predictions
from tris.pseudo.label import LabelConfig

_IMAGES_PER_BATCH = 8


def write_predictions(
    network: MaskNetwork,
    tokenizer: Tokenizer,
    index: Index,
    out: Path,
    *,
    refinement: LabelConfig | None = None,
    with_saliency: bool = False,
) -> tuple[int, int]:
    """Write a line per expression of a split; return how many, and how many of them refuse.

    Group-wise networks get the groups that the index names whole (a category of CoCA, a scene and
    sentence of GRD); all else is asked of one photograph at a time.

    Args:
        network: In evaluation mode.
        tokenizer: The network's own.
        index: The split.
        out: The file.
        refinement: Sharpens each mask by itself (a dense CRF); the peak stays the network's.
        with_saliency: Also write the network's map, grey.
    """
    dataset = ExpressionDataset(index, network.input_spec, tokenizer)
    batches = list_batches(index, network.input_spec)
    numbers = [[item.expression for item in batch] for batch in batches]
    numbered = zip(numbers, build_loader(dataset, batches), strict=True)
    number = num_refused = 0
    with out.open("w") as file:
        predictions = predict_split(functools.partial(respond, network), numbered, index)
        lines = _make_lines(predictions, index, refinement, with_saliency=with_saliency)
        for line in lines:
            file.write(json.dumps(line) + "\n")
            number += 1
            num_refused += line["no_target"]
    return number, num_refused


def _make_lines(
    predictions: Iterator[Prediction],
    index: Index,
    refinement: LabelConfig | None,
    *,
    with_saliency: bool,
) -> Iterator[dict[str, Any]]:
    if refinement is None:
        for each in predictions:
            yield to_line(each, with_saliency=with_saliency)
        return
    workers = len(os.sched_getaffinity(0))
    refined = refine_predictions(predictions, index, refinement, num_workers=workers)
    for each, label in refined:
        assert label.label is not None, "labels are kept, whatever they are"
        yield to_line(each, (label.label == 1).astype(np.uint8), with_saliency=with_saliency)


def list_batches(index: Index, spec: InputSpec) -> list[list[Item]]:
    """Return the expressions of a split in batches."""
    if spec.group_size:
        return group_evaluation_batches(
            index, pairs_per_batch=2 * _IMAGES_PER_BATCH, largest_group=spec.largest_group
        )
    batches = evaluation_batches(index, images_per_batch=_IMAGES_PER_BATCH)
    return [[Item(expression) for expression in batch] for batch in batches]
