"""`tris predict --index`: predictions for a whole split, as `tris score` reads them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tris.batch import Batch, SegmenterOutput
from tris.cli.inference import MaskNetwork, respond
from tris.data.groups import group_evaluation_batches
from tris.data.index import Index
from tris.data.loader import build_loader
from tris.data.masks import encode_mask
from tris.data.plan import Item, evaluation_batches
from tris.data.samples import ExpressionDataset
from tris.data.tokens import Tokenizer
from tris.data.transforms import to_original
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak

_IMAGES_PER_BATCH = 8


def write_predictions(network: MaskNetwork, tokenizer: Tokenizer, index: Index, out: Path) -> int:
    """Write a line per expression of a split; return how many.

    Group-wise networks get the groups that the index names whole (a category of CoCA, a scene and
    sentence of GRD); all else is asked of one photograph at a time.
    """
    dataset = ExpressionDataset(index, network.input_spec, tokenizer)
    number = 0
    with out.open("w") as file:
        batches = list_batches(index, is_grouped=network.input_spec.group_size > 0)
        for items, batch in zip(batches, build_loader(dataset, batches), strict=True):
            with torch.inference_mode():
                output = respond(network, batch)
            for line in _describe(output, batch, items, index):
                file.write(json.dumps(line) + "\n")
                number += 1
    return number


def list_batches(index: Index, *, is_grouped: bool) -> list[list[Item]]:
    """Return the expressions of a split in batches."""
    if is_grouped:
        return group_evaluation_batches(index, pairs_per_batch=2 * _IMAGES_PER_BATCH)
    batches = evaluation_batches(index, images_per_batch=_IMAGES_PER_BATCH)
    return [[Item(expression) for expression in batch] for batch in batches]


def _describe(
    output: SegmenterOutput, batch: Batch, items: list[Item], index: Index
) -> Iterator[dict[str, Any]]:
    for row, item in enumerate(items):
        image = int(batch.image_index[row])
        height, width = batch.original_size[image].tolist()
        content_height, content_width = batch.content_size[image].tolist()
        response = to_original(
            output.mask_logits[row : row + 1].float(),
            (height, width),
            (content_height, content_width),
            align_corners=True,
        )[0].numpy()
        mask = mask_from_response(response)
        is_absent = output.no_target_logit is not None and bool(output.no_target_logit[row] > 0)
        referent_row, position = index.expression_row(item.expression)
        referent = index[referent_row]
        yield {
            "expression_id": referent.expression_ids[position],
            "ref_id": referent.referent_id,
            "mask": encode_mask(mask) if mask.any() else None,
            "no_target": is_absent or not mask.any(),
            "point": list(find_peak(response)),
        }
