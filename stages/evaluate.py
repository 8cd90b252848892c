"""Score every step of a run: baselines, stage 1, chosen maps, labels, each round, CRF, ceiling."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from stages.evaluate_generalized import generalized_splits, summarise_generalized
from stages.evaluate_labels import evaluate_labels, score_with_crf
from stages.gallery import Gallery
from stages.rounds import earlier_job
from stages.setup import Stage, ceiling_job, find_stage1, on_device, segmenter_job, start_stage
from stages.train_response import respond
from stages.validation import LOGGED, batches_for, open_scored, predict_job
from tris.config import to_json
from tris.data.index import Index, expression_types
from tris.errors import exits_cleanly
from tris.files import replace_file
from tris.metrics.baselines import BASELINES, predict_baseline
from tris.metrics.evaluator import (
    Prediction,
    count_predictions,
    count_shared,
    predict_split,
    to_line,
)
from tris.metrics.gather import gather_rows
from tris.metrics.summary import summarise
from tris.response.response_net import ResponseNet
from tris.tracking.panels import GalleryItem, save_gallery
from tris.tracking.tables import final_table
from tris.tracking.wandb_run import Tracker

Rows = Int64[np.ndarray, "expr columns"]
Key = tuple[Path, str, str]
"""Folder of an index, split, row of the table."""

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
    known: dict[Key, Rows] = {}
    for split in stage.config.data.evaluation_splits:
        index = open_scored(stage, split)
        gallery = Gallery(index, split=split)
        for name, rows in evaluate_split(stage, index, gallery):
            stage.say(f"{split}: {name} scored on {len(rows)} expressions")
            known[index.directory, split, name] = rows
            results.setdefault(name, {})[split] = summarise(
                rows, expression_types(index), names=REPORTED
            )
        if split == stage.config.data.evaluation_splits[0]:
            items = gallery.gather()
            if stage.is_main:
                save_gallery(items, stage.folders.run / "gallery")
                track(stage, results, split, items)
    for split, index, protocol in generalized_splits(stage.config, stage.folders):
        for name, rows in evaluate_trained(stage, index, known):
            stage.say(f"{split}: {name} scored on {len(rows)} expressions")
            results.setdefault(name, {})[split] = summarise_generalized(rows, index, protocol)
    stage.keep_config()
    if stage.is_main:
        replace_file(stage.folders.metrics, json.dumps(results, indent=2) + "\n")
        stage.say(final_table(results))
    stage.accelerator.wait_for_everyone()
    stage.accelerator.end_training()


def track(
    stage: Stage, results: dict[str, dict[str, Any]], split: str, items: list[GalleryItem]
) -> None:
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
        tracker.log_masks(items, step=len(results))


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
        yield f"baseline_{baseline}", gather_rows(count_shared(maps))
    network = load_response(stage)
    seen = batches_for(stage, index, network)
    maps = gallery.responses(predict_split(functools.partial(respond, network), seen, index))
    yield "response", gather_rows(count_predictions(maps))
    seen = batches_for(stage, index, network)
    yield from evaluate_labels(stage, network, seen, index, gallery=gallery)
    for name, job in trained_jobs(stage):
        maps = predict_job(stage, job, index)
        if name == "segmenter":
            maps = keep_predictions(stage, gallery.masks(maps), index)
        if name in ("segmenter", "ceiling") and stage.config.evaluation.crf:
            plain, refined = score_with_crf(stage, maps, index)
            yield name, gather_rows(plain)
            yield f"{name}_crf", gather_rows(refined)
        else:
            yield name, gather_rows(count_predictions(maps))


def evaluate_trained(
    stage: Stage, index: Index, known: Mapping[Key, Rows]
) -> Iterator[tuple[str, Rows]]:
    """Yield the rows of every trained segmenter; those that are known are not made again."""
    for name, job in trained_jobs(stage):
        rows = known.get((index.directory, index.split, name))
        if rows is None:
            rows = gather_rows(count_predictions(predict_job(stage, job, index)))
        yield name, rows


def trained_jobs(stage: Stage) -> Iterator[tuple[str, str]]:
    """Yield the row's name and the job folder of every segmenter that the run has.

    The experiment's own is called ``segmenter`` (and ``ceiling``) whatever network it is, its
    earlier rounds ``segmenter_round1`` (and ``ceiling_round1``); others trained in the same run
    follow under their names, ``segmenter_dmmi``.
    """
    last, ceiling = segmenter_job(stage.config), ceiling_job(stage.config)
    earlier = range(1, stage.config.segmenter.rounds)
    jobs = []
    for name, job in (("segmenter", last), ("ceiling", ceiling)):
        jobs += [(f"{name}_round{number}", earlier_job(job, number)) for number in earlier]
        jobs.append((name, job))
    for name, job in jobs:
        if (stage.folders.model(job) / "config.json").is_file():
            yield name, job
    for config in sorted(stage.folders.run.glob("*/model/config.json")):
        kind, _, network = config.parts[-3].partition("_")
        if kind in ("segmenter", "ceiling") and config.parts[-3] not in (last, ceiling):
            yield f"{kind}_{network or 'tris'}", config.parts[-3]


def keep_predictions(
    stage: Stage, maps: Iterator[Prediction], index: Index
) -> Iterator[Prediction]:
    """Pass maps on; with ``--predictions`` write ``RUN/predictions/SPLIT.jsonl`` for `tris score`.

    Each process writes its part; the main one joins them when all are whole.
    """
    if "predictions" not in stage.switches:
        yield from maps
        return
    folder = stage.folders.run / "predictions"
    folder.mkdir(exist_ok=True)
    parts = [
        folder / f"{index.split}-{number}.part" for number in range(stage.accelerator.num_processes)
    ]
    with parts[stage.accelerator.process_index].open("w") as file:
        for each in maps:
            file.write(json.dumps(to_line(each)) + "\n")
            yield each
    stage.accelerator.wait_for_everyone()
    if stage.is_main:
        join_predictions(parts, folder / f"{index.split}.jsonl")
        for part in folder.glob("*.part"):
            part.unlink()


def join_predictions(parts: Sequence[Path], path: Path) -> None:
    """Write every prediction once, in the order of `gather_rows`: by expression and referent."""
    lines: dict[tuple[int, int], str] = {}
    for part in parts:
        for line in part.read_text().splitlines(keepends=True):
            fields = json.loads(line)
            lines.setdefault((fields["expression_id"], fields["ref_id"]), line)
    replace_file(path, "".join(lines[key] for key in sorted(lines)))


def load_response(stage: Stage) -> ResponseNet:
    """Return the stage-1 network of the run.

    Raises:
        InputError: If there is none.
    """
    return on_device(ResponseNet.from_pretrained(find_stage1(stage)), stage)


if __name__ == "__main__":
    main()
