"""Weights & Biases through Accelerate's tracker, and the local log beside it.

One project; the runs of one training are a group and each stage is a job type. PointM and the IoUs
of all stages have the same keys, so that one panel compares them.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import wandb
from accelerate import Accelerator

from tris.batch import IGNORE_INDEX
from tris.tracking.local_log import LOG_NAME, LocalLog
from tris.tracking.names import to_panel
from tris.tracking.panels import GalleryItem
from tris.tracking.wandb_login import TrackingConfig, WandbRun, find_mode, open_run

JobType = Literal["pretrain", "response", "labels", "segmenter", "ceiling", "evaluate"]
CLASS_LABELS = {0: "background", 1: "referred object", IGNORE_INDEX: "ignored"}
_DEFAULT_TRACKING = TrackingConfig()
_logger = logging.getLogger(__name__)


class Tracker:
    """Logs one job of one training; a silent stand-in on all processes but the main one.

    Use it as a context manager, or call `finish`.
    """

    def __init__(self, *, run_id: str, log: LocalLog | None, run: WandbRun | None = None) -> None:
        self.run_id = run_id
        self._log = log
        self._run = run
        self._best: dict[str, float] = {}

    @classmethod
    def start(
        cls,
        accelerator: Accelerator,
        *,
        group: str,
        job_type: JobType,
        config: Mapping[str, Any],
        directory: Path,
        run_id: str | None = None,
        resumed_step: int | None = None,
        tracking: TrackingConfig = _DEFAULT_TRACKING,
    ) -> "Tracker":
        """Open the local log and the W&B run.

        Args:
            accelerator: Its tracker is used; finish before ``accelerator.end_training()``.
            group: Name of the training; its stages are listed together.
            job_type: Which stage this is.
            config: The typed config as plain values.
            directory: ``RUN/<job>``: gets ``metrics.jsonl`` and ``wandb/``.
            run_id: `Tracker.run_id` of the run that is resumed (kept in the checkpoint).
            resumed_step: Step of the checkpoint; later lines of the local log are dropped.
            tracking: Whether and where to W&B.

        Raises:
            InputError: If W&B refuses the key that was given.
        """
        run_id = run_id or secrets.token_hex(4)
        if not accelerator.is_main_process:
            return cls(run_id="", log=None)
        mode = find_mode() if tracking.tracking == "wandb" else "disabled"
        run = None
        if mode != "disabled":
            directory.mkdir(parents=True, exist_ok=True)
            arguments = {
                "id": run_id,
                "name": f"{group}-{job_type}",
                "group": group,
                "job_type": job_type,
                "dir": str(directory),
            }
            run = open_run(accelerator, tracking, mode, config=config, arguments=arguments)
            run.define_metric("step")
            run.define_metric("*", step_metric="step")
        log = LocalLog(directory / LOG_NAME, resumed_step=resumed_step)
        return cls(run_id=run_id, log=log, run=run)

    def log_metrics(self, values: Mapping[str, float | int], step: int) -> None:
        """Log scalars.

        Args:
            values: ``{"val/mean_iou": 0.5, "train/loss": 1.2}``. Metrics, spelled as in
                ``metrics.json`` or as in the papers, are fractions; W&B shows percentages under
                the papers' names (``val/mIoU``).
            step: Optimiser step. It is a value of its own in W&B: a resumed run may go back.
        """
        if self._log is not None:
            self._log.append(values, step)
        if self._run is not None:
            panel = dict(to_panel(key, float(value)) for key, value in values.items())
            self._run.log({**panel, "step": step})
            self._keep_best()

    def log_masks(self, items: Sequence[GalleryItem], step: int, *, key: str = "gallery") -> None:
        """Log photographs with their masks as layers that the viewer switches on and off."""
        if self._run is not None:
            self._run.log({key: [_to_wandb_image(item) for item in items], "step": step})

    def log_artifact(
        self,
        path: Path,
        *,
        name: str,
        type: str,
        aliases: Sequence[str] = (),
        used: Sequence[str] = (),
    ) -> None:
        """Keep a file or a folder as an artifact, with what it was made from.

        Args:
            path: What to keep.
            name: For example ``labels-<group>``.
            type: For example ``model`` or ``labels``.
            aliases: For example ``best``.
            used: Artifacts (``name:alias``) that this one was made from. Online they become edges
                of the lineage graph; they are always named in the artifact's metadata.
        """
        if self._run is None:
            return
        artifact = wandb.Artifact(name, type=type, metadata={"made_from": list(used)})
        if path.is_dir():
            artifact.add_dir(str(path))
        else:
            artifact.add_file(str(path))
        if not self._run.offline:
            for source in used:
                _use(self._run, source)
        self._run.log_artifact(artifact, aliases=list(aliases))

    def set_best(self, values: Mapping[str, float]) -> None:
        """Make these the run's summary instead of the last values; keys as in `log_metrics`."""
        self._best |= dict(to_panel(key, value) for key, value in values.items())
        self._keep_best()

    def finish(self) -> None:
        """Close the local log and the W&B run; harmless when called twice."""
        if self._log is not None:
            self._log.close()
        if self._run is not None:
            self._keep_best()
            self._run.finish()
            self._run = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and self._run is not None:
            self._run.finish(exit_code=1)
            self._run = None
        self.finish()

    def _keep_best(self) -> None:
        """W&B's summary follows the last logged value; put the best back."""
        if self._run is not None and self._best:
            self._run.summary.update(self._best)


def _use(run: WandbRun, source: str) -> None:
    try:
        run.use_artifact(source)
    except (wandb.errors.CommError, ValueError) as error:
        _logger.warning("W&B does not know %s, so the lineage lacks it: %s", source, error)


def _to_wandb_image(item: GalleryItem) -> wandb.Image:
    masks = {"prediction": item.prediction, "label": item.label, "truth": item.truth}
    layers = {
        name: {"mask_data": mask.astype("uint8"), "class_labels": CLASS_LABELS}
        for name, mask in masks.items()
        if mask is not None
    }
    figures = ", ".join(f"{name} {value:.2f}" for name, value in item.numbers.items())
    caption = f"{item.expression} ({figures})" if figures else item.expression
    return wandb.Image(item.pixels(), masks=layers or None, caption=caption)
