"""Opening a W&B run: online only for people who are logged in, and never a prompt or a hang."""

import logging
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

import wandb
from accelerate import Accelerator

from tris.errors import InputError

Mode = Literal["online", "offline", "disabled"]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run's figures go besides its own folder.

    Attributes:
        tracking: ``wandb`` = Weights & Biases, offline where nobody is logged in; ``none`` = only
            the files in the run's folder.
        project: W&B project.
        start_timeout: Seconds that W&B may take to answer; after that the run is logged offline.
        upload_timeout: Seconds that the last uploads may take at the end of a run.
    """

    tracking: Literal["wandb", "none"] = "wandb"
    project: str = "tris"
    start_timeout: float = 30.0
    upload_timeout: float = 600.0


@runtime_checkable
class WandbRun(Protocol):
    """The part of ``wandb.Run`` that is used here."""

    offline: bool
    summary: Any

    def log(self, data: dict[str, Any]) -> None:
        """Log values."""

    def define_metric(self, name: str, step_metric: str | None = None) -> object:
        """Say which value is the horizontal axis."""

    def log_artifact(self, artifact: Any, *, aliases: list[str]) -> object:  # noqa: ANN401 - theirs
        """Keep a file."""

    def use_artifact(self, name: str) -> object:
        """Note that a kept file was read."""

    def finish(self, exit_code: int | None = None) -> None:
        """Upload and close."""


def find_mode() -> Mode:
    """Return how W&B may run: as ``WANDB_MODE`` says, and offline unless somebody is logged in.

    An empty ``WANDB_MODE`` counts as none and is taken away: W&B itself would stumble over it.
    """
    asked = os.environ.get("WANDB_MODE", "").lower()
    if not asked:
        os.environ.pop("WANDB_MODE", None)
    if asked == "disabled":
        return "disabled"
    if asked in ("offline", "dryrun"):
        return "offline"
    if is_logged_in():
        return "online"
    if asked == "online":
        _logger.warning("WANDB_MODE=online, but nobody is logged in to W&B: logging offline.")
    return "offline"


def is_logged_in() -> bool:
    """Return whether W&B would find a key without asking: environment or netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        known = netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    server = os.environ.get("WANDB_BASE_URL") or str(wandb.Settings().base_url)
    return not known.keys().isdisjoint({urlsplit(server).netloc, "api.wandb.ai"})


def open_run(
    accelerator: Accelerator,
    tracking: TrackingConfig,
    mode: Mode,
    *,
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> WandbRun:
    """Start Accelerate's W&B tracker and return the run inside it (main process only).

    Args:
        accelerator: Its finished W&B trackers of earlier stages are forgotten.
        tracking: Project and time limits.
        mode: ``online`` becomes ``offline``, with a warning, where the server does not answer.
        config: Plain values.
        arguments: For ``wandb.init``: id, name, group, job_type, dir.

    Raises:
        InputError: If W&B refuses the key that was given.
    """
    try:
        return _init(accelerator, tracking, mode, config=config, arguments=arguments)
    except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        raise InputError(
            f"W&B refuses the login it found ({error}): correct WANDB_API_KEY or netrc, or set "
            f"WANDB_MODE=offline."
        ) from error
    except wandb.errors.CommError as error:
        if mode != "online":
            raise
        _logger.warning(
            "W&B did not answer within %.0f s: this run is logged offline in %s/wandb, and "
            "`wandb sync` uploads it later.",
            tracking.start_timeout,
            arguments["dir"],
        )
        _logger.debug("W&B said: %s", error)
    wandb.teardown()  # The half-opened run holds its id until the service ends.
    return _init(accelerator, tracking, "offline", config=config, arguments=arguments)


def _init(
    accelerator: Accelerator,
    tracking: TrackingConfig,
    mode: Mode,
    *,
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> WandbRun:
    settings = wandb.Settings(
        console="off",
        silent=True,
        init_timeout=tracking.start_timeout,
        finish_timeout=tracking.upload_timeout,
    )
    resume = {"resume": "allow"} if mode == "online" else {}
    # init_trackers starts every tracker it knows, those of earlier stages too.
    accelerator.trackers = [one for one in accelerator.trackers if one.name != "wandb"]
    accelerator.log_with = ["wandb"]
    accelerator.init_trackers(
        tracking.project,
        dict(config),
        {"wandb": {**arguments, **resume, "mode": mode, "settings": settings}},
    )
    run: WandbRun = accelerator.get_tracker("wandb", unwrap=True)
    return run
