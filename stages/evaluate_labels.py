"""The rows that go through the label workers: merged maps, labels, and masks after a CRF."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Int64

from stages.gallery import Gallery
from stages.labelling import count_workers, one_thread, to_task
from stages.setup import Stage, load_judge, on_device, with_own_clip
from tris.data.index import Index, Referent
from tris.data.transforms import to_original
from tris.metrics.counts import count_row
from tris.metrics.evaluator import NumberedBatch, Prediction, count_predictions, count_shared
from tris.metrics.gather import gather_rows
from tris.metrics.point import find_peak
from tris.metrics.refinement import refine_predictions
from tris.metrics.rows import merge_rows, repeat_row
from tris.pseudo.label import PseudoLabel
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.selection import ChosenMap, ImageMaps, choose_maps
from tris.response.response_net import ResponseNet

Rows = Int64[np.ndarray, "expr columns"]


def evaluate_labels(
    stage: Stage,
    network: ResponseNet,
    batches: Iterable[NumberedBatch],
    index: Index,
    *,
    gallery: Gallery,
) -> Iterator[tuple[str, Rows]]:
    """Yield the rows of the maps that the judge chose or merged, and of the labels made of them.

    All sentences of a referent are credited with the same map, as in the released evaluation.
    """
    config = with_own_clip(stage)
    labels = config.labels
    judge = on_device(load_judge(config), stage)
    images = choose_maps(
        network, judge, batches, index, selection=labels.selection, label=labels.label
    )
    map_rows: list[Rows] = []
    label_rows: list[Rows] = []
    with LabelPool(labels.label, count_workers(stage)) as pool, one_thread(stage):
        for chosen, found in pool.refine_images(_tasks(images, index)):
            for place, each in enumerate(chosen):
                map_rows.append(count_shared([credit(each)]))
                label_rows.append(count_label(each.referent, found[place]))
                gallery.label(each.referent, found[place])
    name = "prms" if labels.selection.method == "prms" else "merged"
    yield name, gather_rows(merge_rows(map_rows))
    yield "labels", gather_rows(merge_rows(label_rows))


def _tasks(images: Iterable[ImageMaps], index: Index) -> Iterator[ImageTask]:
    for image in images:
        yield to_task(image, image.contests, index)


def credit(chosen: ChosenMap) -> Prediction:
    """Return the chosen map as the prediction that the referent's sentences share."""
    referent, logits = chosen.referent, torch.from_numpy(chosen.response_logits)
    size = (referent.height, referent.width)
    rectified = logits.relu()[None]
    response = to_original(rectified, size, (logits.shape[0], logits.shape[1]))[0].numpy()
    return Prediction(referent, 0, response)


def count_label(referent: Referent, label: PseudoLabel) -> Rows:
    """Return one row per sentence; ignored pixels are no foreground."""
    mask = None if label.label is None else (label.label == 1).astype(np.uint8)
    row = count_row(
        mask,
        referent.mask,
        expression_id=referent.expression_ids[0],
        referent_id=referent.referent_id,
        size=(referent.height, referent.width),
        is_no_target=referent.is_no_target,
        predicted_no_target=False,
        boxes=referent.boxes,
        with_generated_boxes=False,
    )
    return repeat_row(row, referent.expression_ids)


def score_with_crf(
    stage: Stage, predictions: Iterable[Prediction], index: Index
) -> tuple[Rows, Rows]:
    """Return the rows of a segmenter's masks as they are, and after a dense CRF.

    The peak stays that of the network, whose order a CRF does not keep.
    """
    plain: list[Rows] = []
    refined: list[Rows] = []
    workers, rule = count_workers(stage), stage.config.evaluation.refinement
    with one_thread(stage):
        for each, label in refine_predictions(predictions, index, rule, num_workers=workers):
            plain.append(count_predictions([each]))
            refined.append(count_refined(each, label))
    return merge_rows(plain), merge_rows(refined)


def count_refined(prediction: Prediction, label: PseudoLabel) -> Rows:
    """Return the row of one refined mask."""
    assert label.label is not None, "labels are kept, whatever they are"
    referent = prediction.referent
    row = count_row(
        (label.label == 1).astype(np.uint8),
        referent.mask,
        expression_id=referent.expression_ids[prediction.position],
        referent_id=referent.referent_id,
        is_no_target=referent.is_no_target,
        predicted_no_target=prediction.no_target,
        point=find_peak(prediction.response),
        boxes=referent.boxes,
        with_generated_boxes=False,
    )
    return row[None]
