"""Score every step of a run: baselines, stage-1 maps, PRMS, labels, segmenter, ceiling."""

import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from stages.gallery import Gallery
from stages.loading import evaluation_loader, make_dataset
from stages.setup import Stage, find_stage1, load_judge, segmenter_job, start_stage, with_own_clip
from stages.train_response import respond
from stages.train_segmenter import segment
from stages.validation import IMAGES_PER_BATCH, LOGGED, to_device
from tris.config import to_json
from tris.data.images import read_photograph
from tris.data.index import Index, Referent, expression_types, open_index
from tris.data.masks import encode_mask
from tris.data.tokens import build_tokenizer
from tris.data.transforms import to_original
from tris.errors import exits_cleanly
from tris.metrics.baselines import BASELINES, predict_baseline
from tris.metrics.counts import count_row
from tris.metrics.evaluator import (
    NumberedBatch,
    Prediction,
    count_predictions,
    predict_split,
)
from tris.metrics.gather import gather_rows
from tris.metrics.iou import mask_from_response
from tris.metrics.point import find_peak
from tris.metrics.rows import merge_rows
from tris.metrics.summary import compute_by_group, compute_metrics
from tris.model_directory import PretrainedModel
from tris.pseudo.label import PseudoLabel
from tris.pseudo.pool import LabelPool, LabelTask
from tris.pseudo.selection import ChosenMap, choose_maps
from tris.response.response_net import ResponseNet
from tris.segmenters.contract import Segmenter
from tris.tracking.panels import save_gallery
from tris.tracking.tables import final_table
from tris.tracking.wandb_run import Tracker

Rows = Int64[np.ndarray, "expr columns"]
REPORTED = (
    "mean_iou",
    "overall_iou",
    "precision_at_50",
    "peak_in_mask_accuracy",
    "peak_in_box_accuracy",
    "box_accuracy",
)


@exits_cleanly
def main() -> None:
    """Write ``RUN/metrics.json`` and print the final table."""
    stage = start_stage(
        "Score every step of a run; --predictions: also write the segmenter's masks.",
        switches=["predictions"],
    )
    results: dict[str, dict[str, Any]] = {}
    for split in stage.config.data.evaluation_splits:
        index = open_index(stage.folders.index, split)
        gallery = Gallery(index, split=split)
        for name, rows in evaluate_split(stage, index, gallery):
            stage.say(f"{split}: {name} scored on {len(rows)} expressions")
            results.setdefault(name, {})[split] = summarise(rows, expression_types(index))
        if stage.is_main and split == stage.config.data.evaluation_splits[0]:
            save_gallery(gallery.items(), stage.folders.run / "gallery")
            track(stage, results, split, gallery)
    if stage.is_main:
        scratch = stage.folders.metrics.with_suffix(".part")
        scratch.write_text(json.dumps(results, indent=2) + "\n")
        scratch.replace(stage.folders.metrics)
        stage.say(final_table(results))
    stage.accelerator.wait_for_everyone()
    stage.accelerator.end_training()


def track(stage: Stage, results: dict[str, dict[str, Any]], split: str, gallery: Gallery) -> None:
    """Put every step's figures under the same keys, and the gallery, on the dashboard."""
    with Tracker.start(
        stage.accelerator, group=stage.config.group, job_type="evaluate",
        config=to_json(stage.config), directory=stage.folders.job("evaluate"),
        tracking=stage.config.tracking,
    ) as tracker:  # fmt: skip
        for step, by_split in enumerate(results.values()):
            figures = {
                f"val/{key}": by_split[split][key] for key in LOGGED if key in by_split[split]
            }
            tracker.log_metrics(figures, step)
        tracker.log_masks(gallery.items(), step=len(results))


def summarise(rows: Rows, types: dict[int, str]) -> dict[str, Any]:
    """Return the reported metrics of all expressions, and of each type."""
    by_type = compute_by_group(rows, types)
    return {
        **_reported(compute_metrics(rows)),
        "by_type": {kind: _reported(metrics) for kind, metrics in by_type.items()},
    }


def evaluate_split(stage: Stage, index: Index, gallery: Gallery) -> Iterator[tuple[str, Rows]]:
    """Yield the rows of every step that the run has, of all processes together.

    Raises:
        InputError: If the run has not even a stage-1 network.
    """
    accelerator = stage.accelerator
    for baseline in BASELINES:
        maps = predict_baseline(
            baseline,
            index,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        yield f"baseline_{baseline}", gather_rows(count_predictions(maps))
    network = load_response(stage)
    seen = batches_for(stage, index, network)
    maps = gallery.responses(predict_split(functools.partial(respond, network), seen, index))
    yield "response", gather_rows(count_predictions(maps))
    yield from evaluate_labels(stage, network, index, gallery)
    for name, job in (("segmenter", segmenter_job(stage.config)), ("ceiling", "ceiling")):
        if (stage.folders.model(job) / "config.json").is_file():
            segmenter = Segmenter.from_pretrained(stage.folders.model(job))
            segmenter.to(accelerator.device)
            seen = batches_for(stage, index, segmenter)
            maps = predict_split(functools.partial(segment, segmenter), seen, index)
            if name == "segmenter":
                maps = keep_predictions(stage, gallery.masks(maps), index)
            yield name, gather_rows(count_predictions(maps))


def keep_predictions(
    stage: Stage, maps: Iterator[Prediction], index: Index
) -> Iterator[Prediction]:
    """Pass maps on; with ``--predictions`` write them as `tris score` reads them.

    Each process writes a file of its own, ``RUN/predictions/SPLIT-PROCESS.jsonl``.
    """
    if "predictions" not in stage.switches:
        yield from maps
        return
    folder = stage.folders.run / "predictions"
    folder.mkdir(exist_ok=True)
    final = folder / f"{index.split}-{stage.accelerator.process_index}.jsonl"
    scratch = final.with_suffix(".part")
    with scratch.open("w") as file:
        for each in maps:
            file.write(json.dumps(to_line(each)) + "\n")
            yield each
    scratch.replace(final)


def to_line(prediction: Prediction) -> dict[str, Any]:
    """Return one prediction in the form that `tris score` reads."""
    mask = mask_from_response(prediction.response).astype(np.uint8)
    return {
        "expression_id": prediction.referent.expression_ids[prediction.position],
        "ref_id": prediction.referent.referent_id,
        "mask": encode_mask(mask) if mask.any() else None,
        "no_target": False,
        "point": list(find_peak(prediction.response)),
    }


def evaluate_labels(
    stage: Stage, network: ResponseNet, index: Index, gallery: Gallery
) -> Iterator[tuple[str, Rows]]:
    """Yield the rows of the maps that PRMS chose, and of the labels made of them.

    All sentences of a referent are credited with the same map, as in the released evaluation.
    """
    config = with_own_clip(stage)
    judge = load_judge(config).to(stage.accelerator.device)
    seen = batches_for(stage, index, network)
    chosen = choose_maps(network, judge, config.labels.selection, seen, index)
    for_maps, for_labels = itertools.tee(chosen)
    map_rows, label_rows = [], []
    workers = config.labels.num_workers or torch.get_num_threads()
    with LabelPool(config.labels.label, workers) as pool:
        tasks = (to_task(each, index) for each in for_labels)
        for each, (_, label) in zip(for_maps, pool.refine(tasks), strict=True):
            map_rows.append(count_predictions(credit_all(each)))
            label_rows.append(count_label(each.referent, label))
            gallery.label(each.referent, label)
    yield "prms", gather_rows(merge_rows(map_rows))
    yield "labels", gather_rows(merge_rows(label_rows))


def to_task(chosen: ChosenMap, index: Index) -> LabelTask:
    """Return what a label worker needs."""
    path = index.image_path(chosen.referent)
    photograph = read_photograph(path, is_turned=chosen.referent.is_turned)
    return LabelTask(
        chosen.referent.referent_id, chosen.response_logits, np.array(photograph, np.uint8)
    )


def credit_all(chosen: ChosenMap) -> Iterable[Prediction]:
    """Return the chosen map as the prediction of each of the referent's sentences."""
    referent, logits = chosen.referent, torch.from_numpy(chosen.response_logits)
    size = (referent.height, referent.width)
    rectified = logits.relu()[None]
    response = to_original(rectified, size, (logits.shape[0], logits.shape[1]), align_corners=True)[
        0
    ].numpy()
    return [Prediction(referent, position, response) for position in range(len(referent.sentences))]


def count_label(referent: Referent, label: PseudoLabel) -> Rows:
    """Return one row per sentence; ignored pixels are no foreground."""
    mask = None if label.label is None else (label.label == 1).astype(np.uint8)
    rows = [
        count_row(
            mask,
            referent.mask,
            expression_id=expression_id,
            referent_id=referent.referent_id,
            size=(referent.height, referent.width),
            is_no_target=referent.is_no_target,
            predicted_no_target=False,
            boxes=referent.boxes,
            with_generated_boxes=False,
        )
        for expression_id in referent.expression_ids
    ]
    return np.stack(rows)


def load_response(stage: Stage) -> ResponseNet:
    """Return the stage-1 network of the run.

    Raises:
        InputError: If there is none.
    """
    return ResponseNet.from_pretrained(find_stage1(stage)).to(stage.accelerator.device)


def batches_for(stage: Stage, index: Index, network: PretrainedModel) -> Iterator[NumberedBatch]:
    """Yield this process's share of a split as the network wants it."""
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    dataset = make_dataset(stage, index, network.input_spec, tokenizer)
    batches = evaluation_loader(stage, dataset, images_per_batch=IMAGES_PER_BATCH, num_workers=0)
    for numbers, batch in batches:
        yield numbers, to_device(batch, stage)


def _reported(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in REPORTED if name in metrics}


if __name__ == "__main__":
    main()
