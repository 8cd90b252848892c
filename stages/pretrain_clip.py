"""Stage 0: a small CLIP from images and sentences, only where no pretrained one can be had."""

import dataclasses
from itertools import chain

from torch import nn

from stages.loading import TrainingBatches, make_dataset
from stages.setup import Stage, start_stage
from tris.config import PretrainConfig, to_json
from tris.data.index import open_index
from tris.data.manifest import read_manifest
from tris.data.samples import ExpressionDataset
from tris.data.tokens import TOKENIZER_FILE, build_tokenizer, train_word_tokenizer
from tris.encoders.clip import ClipEncoder
from tris.errors import InputError, exits_cleanly
from tris.files import sweep_leftovers
from tris.model_directory import ParameterGroup
from tris.response.contrastive import contrastive_losses
from tris.tracking.wandb_run import Tracker
from tris.training.fingerprint import is_finished
from tris.training.optim import build_optimizer
from tris.training.run import TrainingRun
from tris.training.wrapped import NetworkWithLoss


@exits_cleanly
def main() -> None:
    """Train ``RUN/clip``; nothing is done where it is there, or where weights are named."""
    stage = start_stage("Stage 0: train a small CLIP.", training="pretrain.training")
    config = stage.config.pretrain
    if config is None:
        stage.say(f"Stage 0 is not needed: {stage.config.name} names pretrained weights.")
    elif is_finished(stage.folders.job("pretrain"), fingerprint(stage), model=stage.folders.clip):
        stage.keep_config(replaces=False)
        stage.say(f"{stage.folders.clip} is there already.")
    else:
        train(stage, config)
    stage.accelerator.end_training()


def train(stage: Stage, config: PretrainConfig) -> None:
    """Contrast images with sentences (see `tris.response.contrastive`)."""
    accelerator = stage.accelerator
    index = open_index(stage.folders.index, stage.config.data.train_split)
    sentences = (sentence for referent in index for sentence in referent.sentences)
    extra = config.extra_words or ()
    asset = train_word_tokenizer(chain(sentences, extra), vocabulary_size=config.vocabulary_size)
    spec = config.encoder.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets={TOKENIZER_FILE: asset})
    encoder = ClipEncoder(
        dataclasses.replace(config.encoder, vocabulary_size=tokenizer.vocabulary_size)
    )
    encoder.assets[TOKENIZER_FILE] = asset

    dataset = make_dataset(stage, index, spec, tokenizer)
    batches = make_batches(stage, config, dataset)
    trained = NetworkWithLoss(
        encoder, lambda network, batch: contrastive_losses(network, batch, config.losses)
    )
    optimizer = build_optimizer(
        [ParameterGroup("clip", list(encoder.parameters()))], config.training
    )
    run = TrainingRun(
        accelerator, trained, optimizer,
        config=config.training, total_steps=batches.total_steps,
        steps_per_epoch=batches.steps_per_epoch,
        directory=stage.folders.job("pretrain"),
        fingerprint=fingerprint(stage),
    )  # fmt: skip
    with (
        run,
        Tracker.start(
            accelerator, group=stage.config.group, job_type="pretrain",
            config=to_json(stage.config), directory=run.directory,
            run_id=run.progress.tracker_id, resumed_step=run.resumed_step,
            tracking=stage.config.tracking,
        ) as tracker,
    ):  # fmt: skip
        stage.keep_config()
        run.progress.tracker_id = tracker.run_id
        if stage.is_main:
            sweep_leftovers(stage.folders.clip.parent, stage.folders.clip.name)
        run.model.train()
        for batch in run.batches(batches):
            losses = run.model(batch)
            run.update(losses, batch)
            if run.is_time_to_log:
                tracker.log_metrics(run.log_values(losses), run.step)
        if stage.is_main:
            deliver(run.delivered_network(), stage)
        run.finish()
    stage.say(f"Stage 0 is done: {stage.folders.clip}")


def make_batches(
    stage: Stage, config: PretrainConfig, dataset: ExpressionDataset
) -> TrainingBatches:
    """Return images with one sentence of each referent, which is what the losses compare.

    Raises:
        InputError: If the settings ask for more of them.
    """
    training = config.training
    if training.sentences_per_referent not in (None, 1):
        raise InputError(
            f"pretrain.training.sentences_per_referent is {training.sentences_per_referent}, but "
            "stage 0 compares an image with one sentence of each referent: leave it out."
        )
    if training.sampling == "images":
        training = dataclasses.replace(training, sentences_per_referent=1)
    return TrainingBatches(stage, dataset, training, with_no_target=False)


def fingerprint(stage: Stage) -> dict[str, object]:
    """Return the settings that the delivered CLIP depends on."""
    config, sources = stage.config, read_manifest(stage.folders.index).contents
    return to_json(
        {"seed": config.seed, "data": config.data, "pretrain": config.pretrain, "sources": sources}
    )


def deliver(trained: nn.Module, stage: Stage) -> None:
    """Write the model directory."""
    if not isinstance(trained, NetworkWithLoss) or not isinstance(trained.network, ClipEncoder):
        raise TypeError(f"Stage 0 trains a CLIP, not a {type(trained).__name__}.")
    trained.network.save_pretrained(stage.folders.clip)


if __name__ == "__main__":
    main()
