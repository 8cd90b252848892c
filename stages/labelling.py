"""Filling a label store, whatever the maps come from: one shard per process, by image, resumable.

Every batch is the same whatever the number of processes and wherever an earlier run was stopped, so
the labels are, too.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from stages.loading import make_dataset
from stages.setup import Stage
from stages.validation import IMAGES_PER_BATCH, to_device
from tris.batch import Batch
from tris.config import to_json
from tris.data.images import read_photograph
from tris.data.index import Index, Referent
from tris.data.loader import build_loader
from tris.data.plan import evaluation_batches
from tris.data.tokens import build_tokenizer
from tris.errors import InputError
from tris.model_directory import PretrainedModel
from tris.pseudo.contest import Contest, contests_for
from tris.pseudo.label import LabelConfig
from tris.pseudo.manifest import LabelSettings, Manifest
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.records import RecordKey, make_record
from tris.pseudo.selection import ChosenMap, ImageMaps
from tris.pseudo.store import discard_stale_store, is_label_store_finished
from tris.pseudo.store_writer import LabelStoreWriter, finish_label_store
from tris.tracking.wandb_run import Tracker

MakeMaps = Callable[[Iterable[tuple[list[int], Batch]]], Iterator[ImageMaps]]
"""From numbered batches of whole images to one map per referent, image by image."""


@dataclass(frozen=True)
class Labelling:
    """What fills a store.

    Attributes:
        directory: The store.
        settings: What the labels depend on.
        index: The split to be labelled.
        network: Its input is what the maps are made of.
        make_maps: Network and judge at work.
        label: The label rule.
        num_readers: Loader workers.
        log: Folder of the local log.
        used: Artifacts that the labels were made with.
        artifact: Name of the labels' own.
    """

    directory: Path
    settings: LabelSettings
    index: Index
    network: PretrainedModel
    make_maps: MakeMaps
    label: LabelConfig
    num_readers: int
    log: Path
    used: str
    artifact: str


def fill_store(stage: Stage, labelling: Labelling, *, replaces: bool) -> None:
    """Make every label that is missing; a finished store is left as it is.

    Args:
        stage: Its processes share the images.
        labelling: What fills it.
        replaces: Whether a store of other weights or settings makes way; else it is refused.

    Raises:
        InputError: If labels are to be in one piece and referents stand for several objects.
    """
    check_components(labelling.label, labelling.index)
    make_way(stage, labelling, replaces=replaces)
    if is_label_store_finished(labelling.directory, labelling.settings):
        stage.keep_config(replaces=False)
        stage.say(f"{labelling.directory} is there already.")
    else:
        label_share(stage, labelling)
        stage.accelerator.wait_for_everyone()
        if stage.is_main:
            keys = keys_of(labelling.index, labelling.index)
            report(stage, labelling, finish_label_store(labelling.directory, expected_keys=keys))
    stage.accelerator.wait_for_everyone()


def check_components(label: LabelConfig, index: Index) -> None:
    """Make sure that no referent is cut down to one of its objects.

    Raises:
        InputError: If one would be.
    """
    if label.components == "all":
        return
    several = sum(len(ids) > 1 for ids in index.column("annotation_ids").to_pylist())
    if several:
        raise InputError(
            f"{several} referents of {index.manifest.dataset}/{index.split} stand for several "
            "objects: their labels cannot be in one piece, give --labels.label.components=all "
            "--self-training.label.components=all."
        )


def make_way(stage: Stage, labelling: Labelling, *, replaces: bool) -> None:
    """Remove stale labels where that is allowed."""
    if replaces and stage.is_main:
        differences = discard_stale_store(labelling.directory, labelling.settings)
        if differences:
            stage.say(f"Stale labels are made anew ({'; '.join(differences)}).")
    stage.accelerator.wait_for_everyone()


def label_share(stage: Stage, labelling: Labelling) -> None:
    """Label this process's share of the images."""
    writer = LabelStoreWriter(
        labelling.directory,
        labelling.settings,
        process_index=stage.accelerator.process_index,
        num_processes=stage.accelerator.num_processes,
    )
    with writer, LabelPool(labelling.label, count_workers(stage)) as pool, one_thread(stage):
        stage.keep_config()
        keys = keys_by_expression(labelling.index)
        todo = batches_to_do(stage, labelling, keys, writer.done)
        missing = {key for numbers in todo for key in batch_keys(keys, numbers)}
        bar = tqdm(
            total=len(missing - writer.done), disable=not stage.is_main, desc="labels",
            unit="referent", dynamic_ncols=True, mininterval=1.0,
        )  # fmt: skip
        with bar:
            tasks = image_tasks(stage, labelling, todo, done=frozenset(writer.done))
            for chosen, labels in pool.refine_images(tasks):
                for place, label in labels.items():
                    key = key_of(labelling.index, chosen[place].referent)
                    if key in writer.done:
                        continue
                    writer.write(make_record(
                        key, label, expression_id=expression_of(chosen[place]),
                        score=chosen[place].score,
                    ))  # fmt: skip
                    bar.update(1)


def image_tasks(
    stage: Stage, labelling: Labelling, batches: Sequence[list[int]], *, done: frozenset[RecordKey]
) -> Iterator[ImageTask]:
    """Yield the maps of every image in which a label is missing, with its photograph."""
    spec = labelling.network.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets=labelling.network.assets)
    dataset = make_dataset(stage, labelling.index, spec, tokenizer)
    loader = build_loader(dataset, batches, num_workers=labelling.num_readers)
    numbered = (
        (numbers, to_device(batch, stage)) for numbers, batch in zip(batches, loader, strict=True)
    )
    for image in labelling.make_maps(numbered):
        wanted = keys_of(labelling.index, (each.referent for each in image.chosen)) - done
        places = [
            place
            for place, each in enumerate(image.chosen)
            if key_of(labelling.index, each.referent) in wanted
        ]
        if contests := contests_for(image.contests, places):
            yield to_task(image, contests, labelling.index)


def to_task(image: ImageMaps, contests: Sequence[Contest], index: Index) -> ImageTask:
    """Return what a label worker needs; the maps come back with the labels."""
    referent = image.chosen[0].referent
    photograph = read_photograph(index.image_path(referent), is_turned=referent.is_turned)
    maps = np.stack([each.response_logits for each in image.chosen])
    return ImageTask(image.chosen, maps, np.array(photograph, np.uint8), tuple(contests))


def batches_to_do(
    stage: Stage, labelling: Labelling, keys: Sequence[RecordKey | None], done: set[RecordKey]
) -> list[list[int]]:
    """Return this process's batches in which a label is missing, as running numbers.

    A batch is asked whole even if some of its labels are done: what it is asked with may touch
    the last digit of a response.
    """
    everyone = evaluation_batches(labelling.index, images_per_batch=IMAGES_PER_BATCH)
    accelerator = stage.accelerator
    mine = everyone[accelerator.process_index :: accelerator.num_processes]
    return [numbers for numbers in mine if batch_keys(keys, numbers) - done]


def keys_by_expression(index: Index) -> list[RecordKey | None]:
    """Return the key of every expression's referent; None where it has no target."""
    columns = ("referent_id", "is_no_target", "expression_ids")
    ids, flags, expressions = (index.column(name).to_pylist() for name in columns)
    keys: list[RecordKey | None] = []
    for referent_id, is_no_target, own in zip(ids, flags, expressions, strict=True):
        key = None if is_no_target else (index.manifest.dataset, referent_id)
        keys += [key] * len(own)
    return keys


def batch_keys(keys: Sequence[RecordKey | None], numbers: Iterable[int]) -> set[RecordKey]:
    """Return what is to be labelled of the referents of these expressions."""
    return {key for number in numbers if (key := keys[number]) is not None}


def keys_of(index: Index, referents: Iterable[Referent]) -> set[RecordKey]:
    """Return the keys of those that have a target."""
    return {key_of(index, each) for each in referents if not each.is_no_target}


def key_of(index: Index, referent: Referent) -> RecordKey:
    """Return data set and number of a referent."""
    return index.manifest.dataset, referent.referent_id


def expression_of(chosen: ChosenMap) -> int:
    """Return the official id of the sentence that made the map, or most of it."""
    return chosen.referent.expression_ids[chosen.position]


def count_workers(stage: Stage) -> int:
    """Return the CRF processes of this process: one for each core that it has, unless told.

    With a single core and no GPU to wait for it would only take turns with a worker: then 0, it
    runs the CRF itself.
    """
    if stage.config.labels.num_workers:
        return stage.config.labels.num_workers
    siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = max(1, len(os.sched_getaffinity(0)) // siblings)
    return 0 if cores == 1 and stage.accelerator.device.type == "cpu" else cores


@contextmanager
def one_thread(stage: Stage) -> Iterator[None]:
    """On a processor compute with one thread: the label workers are the parallelism.

    And sums do not depend on how cores are shared out.
    """
    before = torch.get_num_threads()
    if stage.accelerator.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def report(stage: Stage, labelling: Labelling, manifest: Manifest) -> None:
    """Print the counts and keep the store as an artifact."""
    counts = manifest.counts
    stage.say(
        f"{manifest.num_records} labels in {labelling.directory}: {counts['sound']} sound, "
        f"{counts['empty']} empty, {counts['whole']} of the whole image; {counts['dropped']} of "
        f"these dropped (rule: {labelling.label.degenerate})."
    )
    with Tracker.start(
        stage.accelerator, group=stage.config.group, job_type="labels",
        config=to_json(stage.config), directory=labelling.log, tracking=stage.config.tracking,
    ) as tracker:  # fmt: skip
        tracker.log_metrics({f"labels/{name}": count for name, count in counts.items()}, step=0)
        tracker.log_artifact(
            labelling.directory, name=labelling.artifact, type="labels", used=[labelling.used]
        )
