"""From response maps to the label store: PRMS, dense CRF, one shard per process.

Goes by image: it is encoded once for all its sentences, its referents' maps meet the judge
together, the CRF runs in worker processes meanwhile. Every batch is the same whatever the number of
processes and wherever an earlier run was stopped, so the labels are, too.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from stages.loading import make_dataset
from stages.setup import Stage, load_judge, start_stage, with_own_clip
from stages.validation import IMAGES_PER_BATCH, to_device
from tris.batch import Batch
from tris.config import ExperimentConfig, to_json
from tris.data.images import read_photograph
from tris.data.index import Index, open_index
from tris.data.loader import build_loader
from tris.data.plan import evaluation_batches
from tris.data.tokens import build_tokenizer
from tris.encoders.clip import ClipEncoder
from tris.errors import InputError, exits_cleanly
from tris.pseudo.manifest import LabelSettings, Manifest, digest_of_weights
from tris.pseudo.pool import LabelPool, LabelTask
from tris.pseudo.records import RecordKey, make_record
from tris.pseudo.selection import select_in_batch
from tris.pseudo.store import discard_stale_store, is_label_store_finished
from tris.pseudo.store_writer import LabelStoreWriter, finish_label_store
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNet
from tris.tracking.wandb_run import Tracker


class Chosen(NamedTuple):
    """What a label's record says besides the label.

    Attributes:
        key: Data set and referent.
        expression_id: Sentence whose map won.
        score: Its cumulative similarity.
    """

    key: RecordKey
    expression_id: int
    score: float


@exits_cleanly
def main() -> None:
    """Fill ``RUN/labels``; a finished store is left as it is, a begun one goes on.

    A store of other weights or settings is refused; with ``--replace`` it is made anew.
    """
    stage = start_stage(
        "Make pseudo-labels; --replace: also where there are some of other weights or settings.",
        switches=["replace"],
    )
    config = with_own_clip(stage)
    network, judge = load_networks(stage, config)
    index = open_index(stage.folders.index, config.data.train_split)
    settings = make_settings(config, index, network, judge)
    prepare_store(stage, settings)
    if is_label_store_finished(stage.folders.labels, settings):
        stage.say(f"{stage.folders.labels} is there already.")
    else:
        label_share(stage, config, index, settings, networks=(network, judge))
        stage.accelerator.wait_for_everyone()
        if stage.is_main:
            manifest = finish_label_store(stage.folders.labels, expected_keys=all_keys(index))
            report(stage, manifest)
    stage.accelerator.wait_for_everyone()
    stage.accelerator.end_training()


def load_networks(stage: Stage, config: ExperimentConfig[Any]) -> tuple[ResponseNet, ClipEncoder]:
    """Return the stage-1 network and the judge, ready to be asked.

    Raises:
        InputError: If stage 1 has not been run.
    """
    directory = stage.folders.model("response")
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory} holds no stage-1 network yet: run make stage1 first.")
    device = stage.accelerator.device
    network = ResponseNet.from_pretrained(directory).to(device).eval().requires_grad_(False)
    if device.type == "cpu":
        # The workers are the parallelism; and sums do not depend on how cores are shared out.
        torch.set_num_threads(1)
    return network, load_judge(config).to(device)


def make_settings(
    config: ExperimentConfig[Any], index: Index, network: ResponseNet, judge: ClipEncoder
) -> LabelSettings:
    """Return all that the labels depend on; masks are not among it."""
    labels = config.labels
    return LabelSettings(
        config=to_json(
            {"selection": labels.selection, "label": labels.label, "text": config.data.text}
        ),
        weights={
            "response": digest_of_weights(network.state_dict()),
            "judge": digest_of_weights(judge.state_dict()),
        },
        data={f"{index.manifest.dataset}/{index.split}": digest_of_index(index)},
    )


def digest_of_index(index: Index) -> str:
    """Return the SHA-256 of who is referred to where and how."""
    digest = hashlib.sha256()
    for name in ("referent_id", "file_name", "expression_ids", "sentences", "raw_sentences"):
        digest.update(json.dumps(index.column(name).to_pylist()).encode())
    return digest.hexdigest()


def prepare_store(stage: Stage, settings: LabelSettings) -> None:
    """Make way for new labels where ``--replace`` allows it."""
    if "replace" in stage.switches and stage.is_main:
        differences = discard_stale_store(stage.folders.labels, settings)
        if differences:
            stage.say(f"The labels are made anew, they were stale ({'; '.join(differences)}).")
    stage.accelerator.wait_for_everyone()


def label_share(
    stage: Stage,
    config: ExperimentConfig[Any],
    index: Index,
    settings: LabelSettings,
    *,
    networks: tuple[ResponseNet, ClipEncoder],
) -> None:
    """Label this process's share of the images."""
    accelerator = stage.accelerator
    writer = LabelStoreWriter(
        stage.folders.labels,
        settings,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    with writer, LabelPool(config.labels.label, num_workers(config)) as pool:
        batches = share_of_batches(stage, index, writer.done)
        tasks = make_tasks(stage, config, index, batches, networks=networks, done=writer.done)
        bar = tqdm(
            pool.refine(tasks), total=count_referents(index, batches, writer.done),
            disable=not stage.is_main, desc="labels", unit="referent", dynamic_ncols=True,
            mininterval=1.0,
        )  # fmt: skip
        for chosen, label in bar:
            writer.write(
                make_record(
                    chosen.key, label, expression_id=chosen.expression_id, score=chosen.score
                )
            )


def num_workers(config: ExperimentConfig[Any]) -> int:
    """Return the CRF processes of this process: as many as it has cores, unless told."""
    siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return config.labels.num_workers or max(1, len(os.sched_getaffinity(0)) // siblings)


def share_of_batches(stage: Stage, index: Index, done: set[RecordKey]) -> list[list[int]]:
    """Return this process's batches in which a label is missing, as running numbers."""
    accelerator = stage.accelerator
    everyone = evaluation_batches(index, images_per_batch=IMAGES_PER_BATCH)
    mine = everyone[accelerator.process_index :: accelerator.num_processes]
    return [batch for batch in mine if any(key not in done for key in keys_of(index, batch))]


def count_referents(index: Index, batches: Sequence[list[int]], done: set[RecordKey]) -> int:
    """Return how many labels are missing in these batches."""
    return len({key for batch in batches for key in keys_of(index, batch)} - done)


def keys_of(index: Index, numbers: Sequence[int]) -> set[RecordKey]:
    """Return the referents that these expressions speak of and that are to be labelled."""
    rows = {index.expression_row(number)[0] for number in numbers}
    referents = (index[row] for row in sorted(rows))
    name = index.manifest.dataset
    return {(name, each.referent_id) for each in referents if not each.is_no_target}


def all_keys(index: Index) -> set[RecordKey]:
    """Return every referent that has a target."""
    name = index.manifest.dataset
    return {(name, referent.referent_id) for referent in index if not referent.is_no_target}


def make_tasks(
    stage: Stage,
    config: ExperimentConfig[Any],
    index: Index,
    batches: Sequence[list[int]],
    *,
    networks: tuple[ResponseNet, ClipEncoder],
    done: set[RecordKey],
) -> Iterator[LabelTask]:
    """Yield the chosen map of every referent that has no label yet, with its photograph."""
    network, judge = networks
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    dataset = make_dataset(stage, index, network.input_spec, tokenizer)
    readers = config.response.training.num_workers
    for numbers, batch in zip(
        batches, build_loader(dataset, batches, num_workers=readers), strict=True
    ):
        yield from tasks_of_batch(
            index, numbers, to_device(batch, stage), networks=(network, judge), config=config,
            done=done,
        )  # fmt: skip


@torch.inference_mode()
def choose_maps(
    batch: Batch, networks: tuple[ResponseNet, ClipEncoder], config: ExperimentConfig[Any]
) -> list[tuple[int, Chosen, np.ndarray]]:
    """Return first row, choice and logits (over the photograph's part) of every referent."""
    network, judge = networks
    logits = upsample(network(batch).response_logits.float(), batch.images.shape[-2:])
    choices = []
    for selection in select_in_batch(logits, batch, judge, config.labels.selection):
        height, width = batch.content_size[batch.image_index[selection.row]].tolist()
        chosen = Chosen(
            key=(config.data.dataset, selection.referent_id),
            expression_id=int(batch.expression_id[selection.row]),
            score=selection.score,
        )
        choices.append((selection.row, chosen, logits[selection.row, :height, :width]))
    return [(row, chosen, map_.cpu().numpy()) for row, chosen, map_ in choices]


def tasks_of_batch(
    index: Index,
    numbers: Sequence[int],
    batch: Batch,
    *,
    networks: tuple[ResponseNet, ClipEncoder],
    config: ExperimentConfig[Any],
    done: set[RecordKey],
) -> Iterator[LabelTask]:
    """Yield the tasks of one batch; a photograph is read once for its neighbouring referents."""
    last_path, image = None, np.zeros((0, 0, 3), np.uint8)
    for row, chosen, logits in choose_maps(batch, networks, config):
        referent = index[index.expression_row(numbers[row])[0]]
        key = (index.manifest.dataset, referent.referent_id)
        if key in done or referent.is_no_target:
            continue
        path = index.image_path(referent)
        if path != last_path:
            image = np.array(read_photograph(path, is_turned=referent.is_turned))
            last_path = path
        yield LabelTask(chosen._replace(key=key), logits, image)


def report(stage: Stage, manifest: Manifest) -> None:
    """Print the counts and keep the store as an artifact."""
    counts = manifest.counts
    stage.say(
        f"{manifest.num_records} labels in {stage.folders.labels}: {counts['sound']} sound, "
        f"{counts['empty']} empty, {counts['whole']} of the whole image; {counts['dropped']} of "
        f"these dropped (rule: {stage.config.labels.label.degenerate})."
    )
    with Tracker.start(
        stage.accelerator, group=stage.config.name, job_type="labels",
        config=to_json(stage.config), directory=stage.folders.job("labels_log"),
        tracking=stage.config.tracking,
    ) as tracker:  # fmt: skip
        tracker.log_metrics({f"labels/{name}": count for name, count in counts.items()}, step=0)
        tracker.log_artifact(
            stage.folders.labels, name=f"labels-{stage.config.name}", type="labels",
            used=[f"response-{stage.config.name}:best"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
