"""A split as a network wants it, and the look at one that trainings take now and then."""

from collections.abc import Iterator

from accelerate.utils import send_to_device

from stages.evaluate_generalized import generalized_protocol, is_generalized
from stages.loading import evaluation_loader, make_dataset
from stages.setup import Stage, on_device
from tris.batch import Batch
from tris.config import DataConfig
from tris.data.index import Index, open_index
from tris.data.samples import ExpressionDataset
from tris.data.tokens import build_tokenizer
from tris.errors import InputError
from tris.metrics.evaluator import (
    NumberedBatch,
    Predict,
    Prediction,
    count_predictions,
    predict_split,
)
from tris.metrics.gather import gather_rows
from tris.metrics.summary import compute_metrics
from tris.model_directory import PretrainedModel
from tris.segmenters.contract import Segmenter
from tris.training.settings import TrainingConfig

LOGGED = ("mean_iou", "overall_iou", "precision_at_50", "peak_in_mask_accuracy")
LOGGED_OF_GENERALIZED = ("generalized_mean_iou", "no_target_accuracy", "target_accuracy")
IMAGES_PER_BATCH = 16


def validate(stage: Stage, predict: Predict, dataset: ExpressionDataset) -> dict[str, float]:
    """Return the validation metrics over all processes, fractions.

    Where sentences may mean nothing, gIoU, N-acc and T-acc are among them.
    """
    batches = share_of(stage, dataset)
    rows = gather_rows(count_predictions(predict_split(predict, batches, dataset.index)))
    metrics = compute_metrics(rows)
    logged = {name: metrics[name] for name in LOGGED if name in metrics}
    if is_generalized(stage.config, dataset.index):
        metrics = compute_metrics(rows, protocol=generalized_protocol(stage.config))
        logged |= {name: metrics[name] for name in LOGGED_OF_GENERALIZED if name in metrics}
    return logged


def check_selection(stage: Stage, training: TrainingConfig, index: Index) -> None:
    """Make sure that the validation split is scored, and has the metric that selects weights.

    Raises:
        InputError: If it has no masks, or is never scored although that is to select; if the metric
            is gIoU, and no sentence of the split means nothing.
    """
    if training.select == "last" and training.evaluate_every is None:
        return
    if training.evaluate_every is None:
        raise InputError(
            f"training.select is {training.select}, but with training.evaluate_every=None nothing "
            "is scored to select by: give it a number of steps, or select last."
        )
    check_masks(
        stage.config.data, index,
        instead="train without scores (training.select=last, training.evaluate_every=None)",
    )  # fmt: skip
    if training.select == "generalized_mean_iou" and not is_generalized(stage.config, index):
        raise InputError(
            f"training.select is generalized_mean_iou, but the split {index.split!r} of "
            f"{index.directory} has no sentence about nothing: select mean_iou, "
            "peak_in_mask_accuracy or last."
        )


def open_scored(stage: Stage, split: str) -> Index:
    """Open a split that is to be scored.

    Raises:
        InputError: If it has no masks, or not those that the config asks for.
    """
    index = open_index(stage.folders.index, split)
    check_masks(stage.config.data, index, instead="leave it out of data.evaluation_splits")
    return index


def check_masks(data: DataConfig, index: Index, *, instead: str) -> None:
    """Make sure that every row of a split has the mask that the config asks for.

    Args:
        data: The config.
        index: The split.
        instead: What to do if it has none.

    Raises:
        InputError: If a row has no mask, or masks were drawn otherwise.
    """
    if not index.has_masks:
        raise InputError(
            f"The split {index.split!r} of {index.directory} has rows without masks and cannot be "
            f"scored: give them masks, or {instead}."
        )
    check_drawing(data, index)


def check_drawing(data: DataConfig, index: Index) -> None:
    """Make sure that a split has the masks that the config asks for.

    Raises:
        InputError: If overlapping polygons were drawn otherwise.
    """
    drawn = index.manifest.options.get("overlapping_polygons", data.overlapping_polygons)
    if drawn != data.overlapping_polygons:
        raise InputError(
            f"The masks in {index.directory} were drawn with overlapping_polygons={drawn}, not "
            f"{data.overlapping_polygons}: choose another RUN, or remove the index and prepare it "
            "again."
        )


def batches_for(stage: Stage, index: Index, network: PretrainedModel) -> Iterator[NumberedBatch]:
    """Yield this process's share of a split as the network wants it."""
    tokenizer = build_tokenizer(network.input_spec.tokenizer, assets=network.assets)
    yield from share_of(stage, make_dataset(stage, index, network.input_spec, tokenizer))


def predict_job(stage: Stage, job: str, index: Index) -> Iterator[Prediction]:
    """Yield what a trained segmenter says of this process's share of a split.

    A head that says "nothing fits" is heard, on every split: `tris score` hears it, too.
    """
    segmenter = on_device(Segmenter.from_pretrained(stage.folders.model(job)), stage)
    yield from predict_split(segmenter, batches_for(stage, index, segmenter), index)


def share_of(stage: Stage, dataset: ExpressionDataset) -> Iterator[NumberedBatch]:
    """Yield this process's share of a data set, on its device."""
    batches = evaluation_loader(stage, dataset, images_per_batch=IMAGES_PER_BATCH, num_workers=0)
    for numbers, batch in batches:
        yield numbers, to_device(batch, stage)


def to_device(batch: Batch, stage: Stage) -> Batch:
    """Move a batch to this process's device."""
    moved: Batch = send_to_device(batch, stage.accelerator.device)
    return moved
