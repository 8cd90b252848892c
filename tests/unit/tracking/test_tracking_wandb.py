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


@pytest.fixture(scope="module", autouse=True)
def one_wandb_service():
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


def media(directory: Path) -> list[str]:
    found = (directory / "wandb").glob("offline-run-*/files/media/images/**/*.png")
    return sorted(path.parent.name for path in found)


class OnlineRun:
    """Stands for a run that is connected: offline, W&B refuses to record what was used."""

    def __init__(self, *, known: tuple[str, ...]) -> None:
        self.offline = False
        self.summary: dict[str, float] = {}
        self.known = known
        self.used: list[str] = []
        self.kept: list[tuple[wandb.Artifact, list[str]]] = []

    def log(self, data): ...
    def define_metric(self, name, step_metric=None): ...
    def finish(self, exit_code=None): ...

    def use_artifact(self, name):
        if name not in self.known:
            raise ValueError(f"{name} not found")
        self.used.append(name)

    def log_artifact(self, artifact, *, aliases):
        self.kept.append((artifact, aliases))


def test_without_an_account_a_run_is_logged_offline(accelerator, tmp_path):
    with start(accelerator, tmp_path / "response") as tracker:
        tracker.log_metrics({"val/mean_iou": 0.5}, step=3)
    assert offline_runs(tmp_path / "response") == [f"run-{tracker.run_id}.wandb"]


def test_the_local_log_keeps_fractions(accelerator, tmp_path):
    with start(accelerator, tmp_path) as tracker:
        tracker.log_metrics({"val/PointM": 0.5, "train/loss": 2.0}, step=3)
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert curves == {"val/peak_in_mask_accuracy": [(3, 0.5)], "train/loss": [(3, 2.0)]}


def test_wandb_shows_percentages_under_the_papers_names(accelerator, tmp_path):
    with start(accelerator, tmp_path) as tracker:
        tracker.log_metrics({"val/mean_iou": 0.5, "train/loss": 2.0}, step=3)
        summary = dict(accelerator.get_tracker("wandb", unwrap=True).summary)
    assert (summary["val/mIoU"], summary["train/loss"], summary["step"]) == (50.0, 2.0, 3)


def test_group_job_type_and_config_reach_wandb(accelerator, tmp_path):
    with start(accelerator, tmp_path):
        run = accelerator.get_tracker("wandb", unwrap=True)
        assert (run.project, run.group, run.job_type) == ("tris", "synthetic", "response")
        assert run.config["optim"] == {"lr": 0.1}


def test_the_summary_is_the_best_and_not_the_last(accelerator, tmp_path):
    with start(accelerator, tmp_path) as tracker:
        tracker.log_metrics({"val/mean_iou": 0.6}, step=1)
        tracker.set_best({"val/mean_iou": 0.6})
        tracker.log_metrics({"val/mean_iou": 0.4}, step=2)
        assert accelerator.get_tracker("wandb", unwrap=True).summary["val/mIoU"] == 60.0


def test_a_resumed_run_keeps_its_wandb_id(accelerator, tmp_path):
    with start(accelerator, tmp_path, run_id="abcd1234") as tracker:
        assert tracker.run_id == "abcd1234"
    assert offline_runs(tmp_path) == ["run-abcd1234.wandb"]


def test_a_resumed_run_drops_what_it_will_log_again(accelerator, tmp_path):
    with start(accelerator, tmp_path) as tracker:
        for step in (1, 2, 3):
            tracker.log_metrics({"train/loss": float(step)}, step=step)
    with start(accelerator, tmp_path, run_id=tracker.run_id, resumed_step=2) as resumed:
        resumed.log_metrics({"train/loss": 30.0}, step=3)
    assert read_curves(tmp_path / "metrics.jsonl")["train/loss"] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_masks_are_layers_of_the_logged_image(accelerator, tmp_path):
    mask = np.eye(6, 8, dtype=np.uint8)
    image = np.zeros((6, 8, 3), np.uint8)
    item = GalleryItem(1, "red ring", image, label=mask, truth=mask == 0)
    with start(accelerator, tmp_path) as tracker:
        tracker.log_masks([item], step=1)
    assert media(tmp_path) == ["images", "mask", "mask"]


def test_an_image_without_masks_can_be_logged(accelerator, tmp_path):
    with start(accelerator, tmp_path) as tracker:
        tracker.log_masks([GalleryItem(1, "red ring", np.zeros((6, 8, 3), np.uint8))], step=1)
    assert media(tmp_path) == ["images"]


def test_offline_an_artifact_is_kept_with_its_sources_in_the_metadata(
    accelerator, tmp_path, monkeypatch
):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    kept = []
    with start(accelerator, tmp_path) as tracker:
        run = accelerator.get_tracker("wandb", unwrap=True)
        monkeypatch.setattr(type(run), "log_artifact", lambda _, one, aliases: kept.append(one))
        tracker.log_artifact(weights, name="w", type="model", used=["labels-a:latest"])
    assert kept[0].metadata == {"made_from": ["labels-a:latest"]}
    assert list(kept[0].manifest.entries) == ["model.safetensors"]


def test_offline_a_folder_becomes_an_artifact(accelerator, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "shard-0.jsonl").write_text("{}\n")
    with start(accelerator, tmp_path) as tracker:
        tracker.log_artifact(store, name="labels", type="labels", aliases=["best"])


def test_online_an_artifact_is_linked_to_what_it_was_made_from(tmp_path):
    (tmp_path / "w").write_bytes(b"weights")
    run = OnlineRun(known=("response-a:best",))
    tracker = Tracker(run_id="x", log=None, run=run)
    tracker.log_artifact(
        tmp_path / "w", name="w", type="model", aliases=["best"], used=["response-a:best"]
    )
    assert run.used == ["response-a:best"]
    assert run.kept[0][1] == ["best"]


def test_online_an_unknown_source_is_named_and_the_artifact_kept(tmp_path, caplog):
    (tmp_path / "w").write_bytes(b"weights")
    run = OnlineRun(known=())
    with caplog.at_level(logging.WARNING):
        Tracker(run_id="x", log=None, run=run).log_artifact(
            tmp_path / "w", name="w", type="model", used=["response-a:best"]
        )
    assert "response-a:best" in caplog.text
    assert len(run.kept) == 1


def test_a_login_without_network_goes_on_offline_and_says_so_once(
    accelerator, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", UNREACHABLE)
    with (
        caplog.at_level(logging.WARNING, logger="tris"),
        start(accelerator, tmp_path, tracking=TrackingConfig(start_timeout=1.0)) as tracker,
    ):
        tracker.log_metrics({"val/mean_iou": 0.5}, step=1)
    assert offline_runs(tmp_path) == [f"run-{tracker.run_id}.wandb"]
    said = [record.message for record in caplog.records if record.name.startswith("tris")]
    assert len(said) == 1
    assert "did not answer" in said[0]


def test_a_malformed_key_is_an_input_error(accelerator, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(InputError, match="WANDB_MODE=offline"):
        start(accelerator, tmp_path)


@pytest.mark.parametrize("setting", [{"tracking": TrackingConfig(tracking="none")}, {}])
def test_none_and_disabled_keep_only_the_local_log(accelerator, tmp_path, monkeypatch, setting):
    if not setting:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    with start(accelerator, tmp_path, **setting) as tracker:
        tracker.log_metrics({"train/loss": 1.0}, step=1)
        tracker.log_masks([], step=1)
        tracker.set_best({"val/mean_iou": 0.5})
        tracker.log_artifact(tmp_path / "absent", name="w", type="model")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_other_processes_write_nothing(tmp_path):
    class SecondProcess(Accelerator):
        is_main_process = False

    with start(SecondProcess(cpu=True), tmp_path) as tracker:
        tracker.log_metrics({"train/loss": 1.0}, step=1)
    assert tracker.run_id == ""
    assert not list(tmp_path.iterdir())
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def test_stages_of_one_process_follow_each_other(accelerator, tmp_path):
    with start(accelerator, tmp_path / "response"):
        pass
    with start(accelerator, tmp_path / "labels", job_type="labels") as second:
        second.log_metrics({"val/mean_iou": 0.5}, step=1)
    accelerator.end_training()
    assert len(offline_runs(tmp_path / "labels")) == 1


def test_an_error_inside_closes_the_run_and_passes_through(accelerator, tmp_path):
    def fail():
        with start(accelerator, tmp_path):
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert len(offline_runs(tmp_path)) == 1


def test_netrc_counts_as_a_login(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine wandb.example login user password {'a' * 40}\n")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert find_mode() == "online"


def test_asking_for_online_without_a_login_warns_and_stays_offline(monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "online")
    assert find_mode() == "offline"
    assert "nobody is logged in" in caplog.text


def test_an_empty_mode_counts_as_none(accelerator, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    with start(accelerator, tmp_path) as tracker:
        tracker.log_metrics({"val/mean_iou": 0.5}, step=1)
    assert offline_runs(tmp_path)


def test_the_mode_of_the_environment_is_respected(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert find_mode() == "offline"
