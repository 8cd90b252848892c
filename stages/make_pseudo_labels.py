"""From response maps to the label store: PRMS, dense CRF, one shard per process.

Goes by image: it is encoded once for all its sentences, its referents' maps meet the judge
together, the CRF runs in worker processes meanwhile. Every batch is the same whatever the number of
processes and wherever an earlier run was stopped, so the labels are, too.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from stages.label_settings import wanted_labels
from stages.loading import make_dataset
from stages.setup import Stage, find_stage1, load_judge, start_stage, with_own_clip
from stages.validation import IMAGES_PER_BATCH, to_device
from tris.batch import Batch
from tris.config import ExperimentConfig, to_json
from tris.data.images import read_photograph
from tris.data.index import Referent, open_index
from tris.data.loader import build_loader
from tris.data.plan import evaluation_batches
from tris.data.tokens import build_tokenizer
from tris.errors import exits_cleanly
from tris.pseudo.manifest import LabelSettings, Manifest
from tris.pseudo.pool import LabelPool, LabelTask
from tris.pseudo.records import RecordKey, make_record
from tris.pseudo.selection import Selection, select_in_batch
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
    labeller = Labeller(stage, with_own_clip(stage))
    prepare_store(stage, labeller.settings)
    if is_label_store_finished(stage.folders.labels, labeller.settings):
        stage.say(f"{stage.folders.labels} is there already.")
    else:
        label_share(stage, labeller)
        stage.accelerator.wait_for_everyone()
        if stage.is_main:
            keys = labeller.keys_of(labeller.index)
            report(stage, finish_label_store(stage.folders.labels, expected_keys=keys))
    stage.accelerator.wait_for_everyone()
    stage.accelerator.end_training()


def prepare_store(stage: Stage, settings: LabelSettings) -> None:
    """Make way for new labels where ``--replace`` allows it."""
    if "replace" in stage.switches and stage.is_main:
        differences = discard_stale_store(stage.folders.labels, settings)
        if differences:
            stage.say(f"Stale labels are made anew ({'; '.join(differences)}).")
    stage.accelerator.wait_for_everyone()


def label_share(stage: Stage, labeller: "Labeller") -> None:
    """Label this process's share of the images."""
    writer = LabelStoreWriter(
        stage.folders.labels,
        labeller.settings,
        process_index=stage.accelerator.process_index,
        num_processes=stage.accelerator.num_processes,
    )
    labels = labeller.config.labels
    with writer, LabelPool(labels.label, count_workers(labels.num_workers)) as pool:
        todo = labeller.batches_to_do(writer.done)
        total = len({key for numbers in todo for key in labeller.keys(numbers)} - writer.done)
        bar = tqdm(
            pool.refine(labeller.tasks(todo, writer.done)), total=total,
            disable=not stage.is_main, desc="labels", unit="referent", dynamic_ncols=True,
            mininterval=1.0,
        )  # fmt: skip
        for chosen, label in bar:
            writer.write(make_record(
                chosen.key, label, expression_id=chosen.expression_id, score=chosen.score
            ))  # fmt: skip


def count_workers(wanted: int) -> int:
    """Return the CRF processes of this process: as many as it has cores, unless told."""
    siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return wanted or max(1, len(os.sched_getaffinity(0)) // siblings)


class Labeller:
    """Stage 1 and its judge: choose a map for every referent of this process's share."""

    def __init__(self, stage: Stage, config: ExperimentConfig[Any]) -> None:
        """Load the networks and the training split.

        Raises:
            InputError: If stage 1 has not been run.
        """
        self.stage, self.config = stage, config
        self.network = ResponseNet.from_pretrained(find_stage1(stage)).requires_grad_(False)
        self.judge = load_judge(config)
        self.index = open_index(stage.folders.index, config.data.train_split)
        self.settings = wanted_labels(stage)
        device = stage.accelerator.device
        self.network.to(device)
        self.judge.to(device)
        if device.type == "cpu":
            # The workers are the parallelism; and sums do not depend on how cores are shared out.
            torch.set_num_threads(1)

    def keys(self, numbers: Sequence[int]) -> set[RecordKey]:
        """Return the referents, of those that expressions speak of, that are to be labelled."""
        rows = sorted({self.index.expression_row(number)[0] for number in numbers})
        return self.keys_of(self.index[row] for row in rows)

    def keys_of(self, referents: Iterable[Referent]) -> set[RecordKey]:
        """Return the keys of those that have a target."""
        name = self.index.manifest.dataset
        return {(name, each.referent_id) for each in referents if not each.is_no_target}

    def batches_to_do(self, done: set[RecordKey]) -> list[list[int]]:
        """Return this process's batches in which a label is missing, as running numbers.

        A batch is asked whole even if some of its labels are done: what it is asked with may touch
        the last digit of a response.
        """
        everyone = evaluation_batches(self.index, images_per_batch=IMAGES_PER_BATCH)
        accelerator = self.stage.accelerator
        mine = everyone[accelerator.process_index :: accelerator.num_processes]
        return [numbers for numbers in mine if self.keys(numbers) - done]

    def tasks(self, batches: Sequence[list[int]], done: set[RecordKey]) -> Iterator[LabelTask]:
        """Yield the chosen map of every referent without a label, with its photograph."""
        spec = self.network.input_spec
        tokenizer = build_tokenizer(spec.tokenizer, assets=self.network.assets)
        dataset = make_dataset(self.stage, self.index, spec, tokenizer)
        readers = self.config.response.training.num_workers
        loader = build_loader(dataset, batches, num_workers=readers)
        for numbers, batch in zip(batches, loader, strict=True):
            missing = self.keys(numbers) - done
            photographs: dict[Path, np.ndarray] = {}
            for row, selection, logits in self._choose(to_device(batch, self.stage)):
                referent = self.index[self.index.expression_row(numbers[row])[0]]
                key = (self.index.manifest.dataset, referent.referent_id)
                if key not in missing:
                    continue
                path = self.index.image_path(referent)
                if path not in photographs:
                    photograph = read_photograph(path, is_turned=referent.is_turned)
                    photographs[path] = np.array(photograph)
                chosen = Chosen(key, int(batch.expression_id[row]), selection.score)
                yield LabelTask(chosen, logits, photographs[path])

    @torch.inference_mode()
    def _choose(self, batch: Batch) -> list[tuple[int, Selection, np.ndarray]]:
        """Return row, selection and logits (over the photograph's part) per referent."""
        logits = upsample(self.network(batch).response_logits.float(), batch.images.shape[-2:])
        choices = []
        for selection in select_in_batch(logits, batch, self.judge, self.config.labels.selection):
            height, width = batch.content_size[batch.image_index[selection.row]].tolist()
            chosen = logits[selection.row, :height, :width].cpu().numpy()
            choices.append((selection.row, selection, chosen))
        return choices


def report(stage: Stage, manifest: Manifest) -> None:
    """Print the counts and keep the store as an artifact."""
    counts = manifest.counts
    stage.say(
        f"{manifest.num_records} labels in {stage.folders.labels}: {counts['sound']} sound, "
        f"{counts['empty']} empty, {counts['whole']} of the whole image; {counts['dropped']} of "
        f"these dropped (rule: {stage.config.labels.label.degenerate})."
    )
    with Tracker.start(
        stage.accelerator, group=stage.config.group, job_type="labels",
        config=to_json(stage.config), directory=stage.folders.job("labels_log"),
        tracking=stage.config.tracking,
    ) as tracker:  # fmt: skip
        tracker.log_metrics({f"labels/{name}": count for name, count in counts.items()}, step=0)
        tracker.log_artifact(
            stage.folders.labels, name=f"labels-{stage.config.group}", type="labels",
            used=[f"response-{stage.config.group}:best"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
