"""The look at the validation split that trainings take now and then."""

from accelerate.utils import send_to_device

from stages.loading import evaluation_loader
from stages.setup import Stage
from tris.batch import Batch
from tris.data.samples import ExpressionDataset
from tris.metrics.evaluator import Predict, count_predictions, predict_split
from tris.metrics.gather import gather_rows
from tris.metrics.summary import compute_metrics

LOGGED = ("mean_iou", "overall_iou", "precision_at_50", "peak_in_mask_accuracy")
IMAGES_PER_BATCH = 16


def validate(stage: Stage, predict: Predict, dataset: ExpressionDataset) -> dict[str, float]:
    """Return the validation metrics over all processes, fractions."""
    batches = evaluation_loader(stage, dataset, images_per_batch=IMAGES_PER_BATCH, num_workers=0)
    moved = ((numbers, to_device(batch, stage)) for numbers, batch in batches)
    rows = gather_rows(count_predictions(predict_split(predict, moved, dataset.index)))
    metrics = compute_metrics(rows)
    return {name: metrics[name] for name in LOGGED if name in metrics}


def to_device(batch: Batch, stage: Stage) -> Batch:
    """Move a batch to this process's device."""
    moved: Batch = send_to_device(batch, stage.accelerator.device)
    return moved
