"""Stage 2: train a segmenter on pseudo-labels (or, for the ceiling, on annotated masks)."""

import dataclasses
from itertools import chain
from typing import Any, Literal

from torch import Tensor

from stages.composition import make_composer
from stages.grouping import make_group_source
from stages.loading import TrainingBatches, make_dataset
from stages.rounds import (
    Round,
    adopt_training,
    find_round,
    is_ceiling,
    label_settings,
    make_fingerprint,
)
from stages.setup import Stage, find_stage1, start_stage, wanted_text
from stages.validation import check_drawing, check_selection, validate
from tris.batch import Batch, SegmenterOutput
from tris.config import to_json
from tris.data.index import Index, open_index
from tris.data.joining import added_words
from tris.data.mirror import mirror_sentence
from tris.data.samples import LabelSource
from tris.data.tokens import Tokenizer, build_tokenizer
from tris.distributed import relative_share
from tris.errors import exits_cleanly
from tris.pseudo.store import open_label_store
from tris.segmenters.contract import Segmenter
from tris.segmenters.image_losses import ImageLossConfig, image_losses
from tris.segmenters.place_words import PlaceWords
from tris.tracking.wandb_run import Tracker
from tris.training.delivery import Delivery
from tris.training.fingerprint import is_finished
from tris.training.optim import build_optimizer
from tris.training.run import TrainingRun


@exits_cleanly
def main() -> None:
    """Train ``RUN/segmenter/model``; with ``--ceiling`` on annotated masks, ``RUN/ceiling/model``.

    Of several rounds this is the first (`stages.rounds` says where it is trained). A finished
    training is left as it is, a begun one goes on.
    """
    stage = start_stage(
        "Stage 2: train a segmenter on pseudo-labels; --ceiling: on annotated masks.",
        training="segmenter.training",
        switches=["ceiling"],
    )
    train_round(stage, find_round(stage, 1))
    stage.accelerator.end_training()


def train_round(stage: Stage, this: Round) -> None:
    """Train one round where that has not been done."""
    fingerprint = make_fingerprint(stage, this)
    adopt_training(stage, this, fingerprint)
    model = stage.folders.model(this.job)
    if is_finished(stage.folders.job(this.job), fingerprint, model=model):
        stage.keep_config(replaces=False)
        stage.say(f"{model} is there already.")
    else:
        train(stage, this, fingerprint)


def train(stage: Stage, this: Round, fingerprint: dict[str, Any]) -> None:
    """Fully supervised training; what it calls truth comes from the label store."""
    config, training, accelerator = stage.config, this.training, stage.accelerator
    validation_index = open_index(stage.folders.index, config.data.validation_split)
    check_selection(stage, training, validation_index)
    network = start_network(stage, this)
    data_name = f"{config.data.dataset}-{config.data.split_by}"
    network.keep_features_in(stage.folders.features / data_name)
    stage.say(count_parameters(network))
    spec = network.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets=network.assets)
    network.assets.update(tokenizer.assets)
    training_index = open_index(
        stage.folders.index_with_masks if is_ceiling(stage) else stage.folders.index,
        config.data.train_split,
    )
    if is_ceiling(stage):
        check_drawing(config.data, training_index)
    targets = find_targets(stage, this)
    training_set = make_dataset(stage, training_index, spec, tokenizer, targets=targets)
    validation_set = make_dataset(stage, validation_index, spec, tokenizer)
    composition = config.segmenter.composition
    composer = None
    if composition is not None:
        composer = make_composer(
            stage, training_index, composition, targets=targets, tokenizer=tokenizer,
            in_groups=spec.group_size > 0,
        )  # fmt: skip
    if this.start is None:
        silence_unread_words(
            stage, network, training_index, tokenizer,
            is_flipped=training.flip_probability > 0, is_composed=composer is not None,
        )  # fmt: skip
    grouping, groups = config.segmenter.grouping, None
    if spec.group_size:
        groups = make_group_source(stage, training_index, grouping)
    batches = TrainingBatches(
        stage, training_set, training, earlier=this.earlier,
        composer=composer, groups=groups, grouping=grouping,
    )  # fmt: skip
    run = TrainingRun(
        accelerator, network, build_optimizer(network.parameter_groups(), training),
        config=training, total_steps=batches.total_steps,
        steps_per_epoch=batches.steps_per_epoch,
        directory=stage.folders.job(this.job), fingerprint=fingerprint,
    )  # fmt: skip
    delivery = Delivery(run)
    with (
        run,
        Tracker.start(
            accelerator, group=config.group, job_type="segmenter", config=to_json(config),
            directory=run.directory, run_id=run.progress.tracker_id,
            resumed_step=run.resumed_step, tracking=config.tracking,
        ) as tracker,
    ):  # fmt: skip
        stage.keep_config()
        run.progress.tracker_id = tracker.run_id
        network.train()
        for batch in run.batches(batches):
            network.set_progress(run.step / run.total_steps)
            with accelerator.autocast():
                output = run.model(batch)
            losses = find_losses(network, output, batch, config.segmenter.image_losses)
            run.update(losses, batch)
            if run.is_time_to_log:
                tracker.log_metrics(run.log_values(losses), run.step)
            if delivery.is_evaluation_due:
                metrics = validate(stage, run.network_to_evaluate(), validation_set)
                delivery.note(metrics)
                tracker.log_metrics({f"val/{k}": v for k, v in metrics.items()}, run.step)
                network.train()
        tracker.set_best({f"val/{k}": v for k, v in run.progress.best.items()})
        delivery.finish()
        tracker.log_artifact(
            stage.folders.model(this.job), name=f"{this.name}-{config.group}", type="model",
            aliases=["best"], used=[] if is_ceiling(stage) else [f"{this.labels_name}:latest"],
        )  # fmt: skip
    stage.say(f"Stage 2 is done: {stage.folders.model(this.job)}")


def find_losses(
    network: Segmenter, output: SegmenterOutput, batch: Batch, added: ImageLossConfig
) -> dict[str, Tensor]:
    """Return the network's own terms and those of the image, means over all processes' sentences.

    A process has the say of the sentences that it holds (`relative_share`).
    """
    terms = network.loss(output, batch) | image_losses(output.mask_logits, batch, added)
    share = relative_share(len(batch.token_ids), like=batch.images)
    return {name: share * term for name, term in terms.items()}


def find_targets(stage: Stage, this: Round) -> LabelSource | Literal["truth"]:
    """Return where targets come from.

    Raises:
        InputError: If the labels are not finished, or were made with other weights or settings.
    """
    if is_ceiling(stage):
        return "truth"
    return open_label_store(this.labels, expected=label_settings(stage, this))


def start_network(stage: Stage, this: Round) -> Segmenter:
    """Return what is trained: a new network, or the last round's.

    Raises:
        InputError: If the last round has not been trained.
    """
    if this.start is not None:
        return Segmenter.from_pretrained(this.start)
    network: Segmenter = network_config(stage).build()
    return network


def network_config(stage: Stage) -> Any:  # noqa: ANN401 - any segmenter's config
    """Return the segmenter's config, told where stage 1 is if it wants to know.

    Raises:
        InputError: If it wants stage 1 and there is none.
    """
    network = stage.config.segmenter.network
    names = {item.name for item in dataclasses.fields(network)}
    if "stage1_directory" not in names or network.stage1_directory:
        return network
    if not (network.starts_from_stage1 or getattr(network, "has_response_input", False)):
        return network
    return dataclasses.replace(network, stage1_directory=str(find_stage1(stage)))


def silence_unread_words(
    stage: Stage,
    network: Segmenter,
    index: Index,
    tokenizer: Tokenizer,
    *,
    is_flipped: bool,
    is_composed: bool,
) -> None:
    """Let place words say nothing of words that no training sentence can have.

    Once, before training, from the sentences alone: so it is the same in every process.

    Args:
        stage: Knows which text is read.
        network: Its place words are silenced, if it has any.
        index: The training split.
        tokenizer: The network's.
        is_flipped: Whether sentences are mirrored.
        is_composed: Whether sentences are also composed of these.
    """
    modules = [module for module in network.modules() if isinstance(module, PlaceWords)]
    if not modules:
        return
    column = "sentences" if wanted_text(stage.config) == "clean" else "raw_sentences"
    sentences = set(chain.from_iterable(index.column(column).to_pylist()))
    if is_composed:
        sentences |= added_words(sentences)
    if is_flipped:
        sentences |= set(map(mirror_sentence, sentences))
    token_ids = {tokenizer.padding_id}.union(*map(tokenizer.encode, sentences))
    for module in modules:
        module.keep_words(token_ids)


def count_parameters(network: Segmenter) -> str:
    """Return a line on how much of the network is trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    trained, total = sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)
    return f"{trained:,} of {total:,} parameters are trained."


if __name__ == "__main__":
    main()
