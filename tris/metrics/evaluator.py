"""From a network's maps to rows of counts, in original pixels; predictions are never altered."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from tris.batch import Batch, SegmenterOutput
from tris.data.index import Index, Referent
from tris.data.masks import encode_mask
from tris.data.transforms import to_original
from tris.metrics.counts import count_row
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak
from tris.metrics.protocols import STANDARD, ScoringProtocol
from tris.metrics.rows import NUM_COLUMNS, repeat_row
from tris.metrics.saliency import encode_saliency, to_grey

NumberedBatch = tuple[list[int], Batch]
"""Running numbers of the expressions in the index, and the batch that holds them in that order."""

Predict = Callable[[Batch], Float[Tensor, "expr height width"] | SegmenterOutput]
"""Maps at the resolution of the network input; above 0 is foreground, the highest is the peak.

A whole `SegmenterOutput` also says which expressions refer to nothing.
"""


class Prediction(NamedTuple):
    """One expression's map in original pixels, with what it is about.

    Attributes:
        referent: Row of the index.
        position: Which of its sentences.
        response: Original height and width; above 0 is foreground.
        no_target: Whether the network says that nothing fits.
    """

    referent: Referent
    position: int
    response: Float[np.ndarray, "height width"]
    no_target: bool = False


def predict_split(
    predict: Predict, batches: Iterable[NumberedBatch], index: Index
) -> Iterator[Prediction]:
    """Yield every expression's map in original pixels."""
    for numbers, batch in batches:
        with torch.inference_mode():
            output = predict(batch)
        if isinstance(output, Tensor):
            output = SegmenterOutput(output, None, {})
        maps, absent = output.mask_logits.float().cpu(), output.no_target_logit
        places = [index.expression_row(number) for number in numbers]
        referents = {row: index[row] for row, _ in places}
        for row, (referent_row, position) in enumerate(places):
            image = int(batch.image_index[row])
            height, width = batch.original_size[image].tolist()
            content_height, content_width = batch.content_size[image].tolist()
            response = to_original(
                maps[row : row + 1], (height, width), (content_height, content_width)
            )
            no_target = absent is not None and bool(absent[row] > 0)
            yield Prediction(referents[referent_row], position, response[0].numpy(), no_target)


def count_predictions(
    predictions: Iterable[Prediction],
    *,
    protocol: ScoringProtocol = STANDARD,
    with_generated_boxes: bool = False,
) -> Int64[np.ndarray, "expr columns"]:
    """Return one row per expression of this process.

    Args:
        predictions: Maps in original pixels.
        protocol: Its rule for turning a response into a mask.
        with_generated_boxes: Also draw boxes as released TRIS does (slow).
    """
    rows = [
        count_row(
            mask_from_response(prediction.response, rule=protocol.mask_rule).astype(np.uint8),
            prediction.referent.mask,
            expression_id=prediction.referent.expression_ids[prediction.position],
            referent_id=prediction.referent.referent_id,
            is_no_target=prediction.referent.is_no_target,
            predicted_no_target=prediction.no_target,
            point=find_peak(prediction.response, rule=protocol.mask_rule),
            boxes=prediction.referent.boxes,
            with_generated_boxes=with_generated_boxes,
        )
        for prediction in predictions
    ]
    return np.stack(rows) if rows else np.zeros((0, NUM_COLUMNS), dtype=np.int64)


def count_shared(predictions: Iterable[Prediction]) -> Int64[np.ndarray, "expr columns"]:
    """Return one row per sentence of each prediction's referent: all are credited with its map."""
    parts = [
        repeat_row(count_predictions([each])[0], each.referent.expression_ids)
        for each in predictions
    ]
    return np.concatenate(parts) if parts else np.zeros((0, NUM_COLUMNS), dtype=np.int64)


def saliency_map(prediction: Prediction) -> UInt8[np.ndarray, "height width"]:
    """Return the map that Co-SOD metrics are computed of; black where "nothing fits" was said."""
    if prediction.no_target:
        return np.zeros(prediction.response.shape, dtype=np.uint8)
    return to_grey(prediction.response)


def to_line(
    prediction: Prediction,
    mask: UInt8[np.ndarray, "height width"] | None = None,
    *,
    with_saliency: bool = False,
) -> dict[str, Any]:
    """Return one prediction as a line of the file that `tris score` reads.

    Args:
        prediction: Its peak is the line's point.
        mask: 1 = belongs to it; None = where the response is above 0.
        with_saliency: Whether the map itself is part of it; see `saliency_map`.
    """
    if mask is None:
        mask = mask_from_response(prediction.response).astype(np.uint8)
    saliency = {"saliency": encode_saliency(saliency_map(prediction))} if with_saliency else {}
    return {
        "expression_id": prediction.referent.expression_ids[prediction.position],
        "ref_id": prediction.referent.referent_id,
        "mask": encode_mask(mask) if mask.any() else None,
        "no_target": prediction.no_target or not mask.any(),
        "point": list(find_peak(prediction.response)),
    } | saliency
