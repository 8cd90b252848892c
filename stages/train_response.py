"""Stage 1: learn text-to-image response maps from images and sentences (TRIS, section 3.1-3.3)."""

import dataclasses
import functools
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stages.loading import TrainingBatches, make_dataset
from stages.setup import Stage, load_judge, on_device, start_stage, with_own_clip
from stages.validation import check_selection, validate
from tris.batch import Batch, InputSpec
from tris.config import ExperimentConfig, to_json
from tris.data.index import open_index
from tris.data.manifest import read_manifest
from tris.data.tokens import build_tokenizer
from tris.distributed import relative_share
from tris.errors import exits_cleanly
from tris.pseudo.manifest import digest_of_weights
from tris.response.calibration import Calibrator, upsample
from tris.response.classification import classification_loss
from tris.response.response_net import ResponseNet
from tris.tracking.wandb_run import Tracker
from tris.training.delivery import Delivery
from tris.training.fingerprint import is_finished
from tris.training.optim import build_optimizer
from tris.training.run import TrainingRun

JOB: Literal["response"] = "response"


@exits_cleanly
def main() -> None:
    """Train ``RUN/response/model``; a finished training is left as it is, a begun one goes on."""
    stage = start_stage("Stage 1: train response maps.", training="response.training")
    config = with_own_clip(stage)
    fingerprint = make_fingerprint(stage, config)
    model = stage.folders.model(JOB)
    if is_finished(stage.folders.job(JOB), fingerprint, model=model):
        stage.keep_config(replaces=False)
        stage.say(f"{model} is there already.")
    else:
        train(stage, config, fingerprint)
    stage.accelerator.end_training()


def train(stage: Stage, config: ExperimentConfig[Any], fingerprint: dict[str, Any]) -> None:
    """Classification plus calibration on image-sentence pairs."""
    accelerator, experiment = stage.accelerator, config.response
    validation_index = open_index(stage.folders.index, config.data.validation_split)
    check_selection(stage, experiment.training, validation_index)
    network = experiment.network.build()
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    training_set = make_dataset(
        stage, open_index(stage.folders.index, config.data.train_split), network.input_spec,
        tokenizer, num_negatives=experiment.calibration.needed_negatives,
    )  # fmt: skip
    validation_set = make_dataset(stage, validation_index, network.input_spec, tokenizer)
    batches = TrainingBatches(stage, training_set, experiment.training, with_no_target=False)
    judge = None
    if experiment.calibration.is_active:
        judge = on_device(Calibrator(load_judge(config), experiment.calibration), stage)
    groups = network.parameter_groups(experiment.encoder_learning_rate_scale)
    run = TrainingRun(
        accelerator, network, build_optimizer(groups, experiment.training),
        config=experiment.training, total_steps=batches.total_steps,
        steps_per_epoch=batches.steps_per_epoch,
        directory=stage.folders.job(JOB), fingerprint=fingerprint,
    )  # fmt: skip
    delivery = Delivery(run)
    with (
        run,
        Tracker.start(
            accelerator, group=config.group, job_type=JOB, config=to_json(config),
            directory=run.directory, run_id=run.progress.tracker_id,
            resumed_step=run.resumed_step, tracking=config.tracking,
        ) as tracker,
    ):  # fmt: skip
        stage.keep_config()
        run.progress.tracker_id = tracker.run_id
        set_training_mode(network, freeze_batch_norm=experiment.freeze_batch_norm)
        for batch in run.batches(batches):
            with accelerator.autocast():
                maps = run.model(batch, all_pairs=True)
            losses = {
                "classification_loss": experiment.classification.weight
                * classification_loss(maps.pairs, experiment.classification)
            }
            if judge is not None:
                with accelerator.autocast():
                    responses = maps.response_logits.float()
                    losses |= calibrate(judge, responses, batch, network.input_spec)
            run.update(losses, batch)
            if run.is_time_to_log:
                tracker.log_metrics(run.log_values(losses), run.step)
            if delivery.is_evaluation_due:
                evaluated = run.network_to_evaluate()
                metrics = validate(stage, functools.partial(respond, evaluated), validation_set)
                delivery.note(metrics)
                tracker.log_metrics({f"val/{k}": v for k, v in metrics.items()}, run.step)
                set_training_mode(network, freeze_batch_norm=experiment.freeze_batch_norm)
        tracker.set_best({f"val/{k}": v for k, v in run.progress.best.items()})
        delivery.finish()
        tracker.log_artifact(
            stage.folders.model(JOB), name=f"response-{config.group}", type="model",
            aliases=["best"],
        )  # fmt: skip
    stage.say(f"Stage 1 is done: {stage.folders.model(JOB)}")


def calibrate(
    judge: Calibrator,
    response_logits: Float[Tensor, "expr h w"],
    batch: Batch,
    input_spec: InputSpec,
) -> dict[str, Tensor]:
    """Return the judge's terms, means over all processes' sentences (`relative_share`)."""
    share = relative_share(len(batch.token_ids), like=batch.images)
    terms = judge(response_logits, batch, input_spec=input_spec)
    return {name: share * term for name, term in terms.items()}


def respond(network: Any, batch: Batch) -> Tensor:  # noqa: ANN401 - average or network
    """Return rectified responses at the network's input size, as released."""
    maps = network(batch).response_logits
    return upsample(maps.float(), batch.images.shape[-2:]).relu()


def set_training_mode(network: ResponseNet, *, freeze_batch_norm: bool) -> None:
    """Switch to training; frozen batch norms keep their statistics."""
    network.train()
    if freeze_batch_norm:
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()


def make_fingerprint(stage: Stage, config: ExperimentConfig[Any]) -> dict[str, Any]:
    """Return the settings that the delivered weights depend on.

    Weights of stage 0 count by what they are, wherever the run is; others by their names.
    """
    network = dataclasses.replace(
        config.response.network,
        encoder=dataclasses.replace(config.response.network.encoder, pretrained=""),
    )
    judge = config.response.calibration.encoder
    calibration = dataclasses.replace(
        config.response.calibration, encoder=dataclasses.replace(judge, pretrained="")
    )
    response = dataclasses.replace(config.response, network=network, calibration=calibration)
    clip = stage.folders.clip / "model.safetensors"
    start = digest_of_weights(clip) if config.pretrain else stage.config.response.network.encoder
    return to_json(
        {
            "seed": config.seed,
            "data": config.data,
            "response": response,
            "starts_from": start,
            "judge": None if config.pretrain else judge.pretrained,
            "sources": read_manifest(stage.folders.index).contents,
        }
    )


if __name__ == "__main__":
    main()
