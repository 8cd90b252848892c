import logging
from pathlib import Path

import numpy as np
import pytest
import wandb
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from tris.errors import InputError
from tris.tracking.local_log import read_curves
from tris.tracking.panels import GalleryItem
from tris.tracking.wandb_login import TrackingConfig, find_mode
from tris.tracking.wandb_run import Tracker

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    yield
    wandb.teardown()


@pytest.fixture
def accelerator():
    yield Accelerator(cpu=True)
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def start(accelerator, directory, **changes):
    arguments = {"group": "synthetic", "job_type": "response", "config": {"optim": {"lr": 0.1}}}
    return Tracker.start(accelerator, directory=directory, **(arguments | changes))


def offline_runs(directory: Path) -> list[str]:
    return [path.name for path in (directory / "wandb").glob("offline-run-*/*.wandb")]


def test_without_an_account_a_run_is_logged_offline(accelerator, tmp_path):
    with start(accelerator, tmp_path / "response") as tracker:
        tracker.log_metrics({"val/mean_iou": 0.5}, step=3)
    assert offline_runs(tmp_path / "response") == [f"run-{tracker.run_id}.wandb"]
    assert read_curves(tmp_path / "response" / "metrics.jsonl") == {"val/mean_iou": [(3, 0.5)]}


def test_a_resumed_run_keeps_its_wandb_id(accelerator, tmp_path):
    with start(accelerator, tmp_path, run_id="abcd1234") as tracker:
        assert tracker.run_id == "abcd1234"
    assert offline_runs(tmp_path) == ["run-abcd1234.wandb"]
