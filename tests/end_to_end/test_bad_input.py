"""Whoever gives bad input reads one sentence, gets exit code 2, and finds nothing half-written."""

import json
import os
import shutil
import subprocess

import pytest
import safetensors.torch

pytestmark = pytest.mark.slow


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(zygote, run_settings, tmp_path):
    arguments = run_settings(tmp_path / "run", "--response.training.stepz=3")
    sentence = zygote.fail("train_response", arguments)
    assert sentence == (
        "error: There is no setting --response.training.stepz: did you mean "
        "--response.training.steps?"
    )
    assert not (tmp_path / "run").exists()


def test_a_missing_config_file_is_named_with_those_there_are(zygote, run_settings, tmp_path):
    arguments = run_settings(tmp_path / "run")
    arguments[1] = arguments[1].replace("debug.py", "debugg.py")
    sentence = zygote.fail("train_response", arguments)
    assert "debugg.py" in sentence
    assert "synthetic" in sentence


def test_a_missing_data_folder_is_named(zygote, run_settings, tmp_path):
    config = run_settings(tmp_path)[1].replace("debug.py", "refcoco_mini.py")
    missing = tmp_path / "nowhere"
    arguments = run_settings(tmp_path / "run", "--tracking.tracking=none", "--data", str(missing))
    arguments[1] = config
    assert str(missing) in zygote.fail("prepare_data", arguments)
    assert not (tmp_path / "run").exists()


def test_real_data_without_a_folder_say_which_variable_is_missing(zygote, run_settings, tmp_path):
    arguments = run_settings(tmp_path / "run")
    arguments[1] = arguments[1].replace("debug.py", "refcoco_mini.py")
    assert "DATA=folder" in zygote.fail("prepare_data", arguments)


def test_an_image_that_cannot_be_read_is_named(copy_of_run, zygote, run_settings):
    run = copy_of_run("data", "index", "clip")
    for image in sorted((run / "data" / "images").glob("*.jpg"))[:40]:
        image.write_bytes(image.read_bytes()[:100])
    sentence = zygote.fail("train_response", run_settings(run))
    assert "/images/0000" in sentence
    assert not (run / "response" / "model").exists()


def test_a_run_of_other_data_is_refused(copy_of_run, zygote, run_settings):
    run = copy_of_run("data", "index", "index_with_masks")
    sentence = zygote.fail("prepare_data", run_settings(run, "--data.dataset=refcoco+"))
    assert "refcoco (unc)" in sentence
    assert "refcoco+ (unc)" in sentence


@pytest.mark.parametrize(
    ("setting", "done", "refused"),
    [
        ("--response.training.steps=5", ["prepare_data", "pretrain_clip"], "train_response"),
        ("--segmenter.training.steps=5", ["make_pseudo_labels"], "train_segmenter"),
        ("--seed=1", ["prepare_data"], "pretrain_clip"),
        ("--seed=1", ["make_pseudo_labels"], "train_segmenter"),
    ],
)
def test_a_refused_setting_leaves_the_config_of_the_run(
    copy_of_run, zygote, run_settings, setting, done, refused
):
    """As make goes on from stage to stage: those before may find their work done."""
    run = copy_of_run(
        "config.json", "data", "index", "index_with_masks", "clip", "pretrain", "response",
        "labels", "segmenter",
    )  # fmt: skip
    before = (run / "config.json").read_bytes()
    for stage in done:
        assert "is there already" in zygote.run(stage, run_settings(run, setting))
    assert "other settings" in zygote.fail(refused, run_settings(run, setting))
    assert (run / "config.json").read_bytes() == before


def test_labels_of_other_weights_are_refused_and_stay(copy_of_run, zygote, run_settings):
    run = copy_of_run("data", "index", "clip", "response", "labels")
    weights = run / "response" / "model" / "model.safetensors"
    state = safetensors.torch.load_file(weights)
    name = next(name for name in state if state[name].is_floating_point())
    safetensors.torch.save_file({**state, name: state[name] + 1}, weights)
    before = sorted((each.name, each.stat().st_mtime_ns) for each in (run / "labels").iterdir())
    assert "weights.response" in zygote.fail("make_pseudo_labels", run_settings(run))
    after = sorted((each.name, each.stat().st_mtime_ns) for each in (run / "labels").iterdir())
    assert before == after


def test_three_processes_for_a_batch_of_sixteen_are_refused_once(
    copy_of_run, launched, run_settings
):
    run = copy_of_run("data", "index", "clip")
    done = launched("train_response", run_settings(run), num_processes=3)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "16 referents cannot be split evenly over 3 processes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["make_pseudo_labels", "train_segmenter", "evaluate"])
def test_stage_two_before_stage_one_says_what_to_run_first(
    copy_of_run, zygote, run_settings, stage
):
    run = copy_of_run("data", "index", "clip")
    zygote.fail(stage, run_settings(run))
    assert not (run / "labels").exists()
    assert not (run / "segmenter").exists()
    assert not (run / "metrics.json").exists()


def test_stage_one_before_stage_zero_says_what_to_run_first(copy_of_run, zygote, run_settings):
    run = copy_of_run("data", "index")
    assert "pretrain_clip" in zygote.fail("train_response", run_settings(run))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_ids_of_its_batch(
    copy_of_run, zygote, run_settings
):
    run = copy_of_run("data", "index", "clip")
    arguments = run_settings(run, "--response.training.learning-rate=1e30")
    sentence = zygote.fail("train_response", arguments)
    path = run / "response" / "non_finite-0.json"
    assert str(path) in sentence
    assert len(json.loads(path.read_text())["referent_id"]) == 16
    assert not (run / "response" / "model").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of the size that is asked for, of which only root can make one."""
    mounted = []

    def mount(megabytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        size = f"size={int(1000 * megabytes)}k"
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system takes root and the right to mount")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_preparation_with_nothing_half_written(
    small_disk, zygote, run_settings
):
    run = small_disk(1) / "run"
    overrides = ("--data.synthetic.num-train-images=3000",)
    sentence = zygote.fail("prepare_data", run_settings(run, *overrides))
    assert "space" in sentence
    assert not (run / "index").exists()
    assert not (run / "data").exists()


@pytest.mark.parametrize("models", [0.5, 3], ids=["no model fits", "no checkpoint fits"])
def test_a_full_disk_stops_a_training_and_it_goes_on_when_there_is_space(
    small_disk, copy_of_run, finished_run, zygote, run_settings, tmp_path, models
):
    source = copy_of_run("data", "index", "clip", name="source")
    model = finished_run / "response" / "model" / "model.safetensors"
    run = small_disk(models * model.stat().st_size / 1e6) / "run"
    run.mkdir()
    for part in ("data", "index", "clip"):
        (run / part).symlink_to(source / part)
    arguments = run_settings(run, "--response.training.checkpoint-steps=12")
    assert "space" in zygote.fail("train_response", arguments)
    assert not (run / "response" / "model").exists()
    moved = tmp_path / "moved"
    shutil.copytree(run, moved, symlinks=True)
    zygote.run("train_response", run_settings(moved, "--response.training.checkpoint-steps=12"))
    assert (moved / "response" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("key", [None, "0" * 40])
def test_wandb_without_login_or_network_does_not_stop_a_training(
    copy_of_run, zygote, run_settings, key
):
    run = copy_of_run("data", "index", "clip")
    overrides = [
        "--tracking.tracking=wandb", "--tracking.start-timeout=3", "--tracking.upload-timeout=3",
        "--response.training.steps=2",
    ]  # fmt: skip
    environment = {"WANDB_MODE": "", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    if key:
        environment["WANDB_API_KEY"] = key
    running = zygote.start("train_response", run_settings(run, *overrides), also=environment)
    assert running.wait() == [0], running.output
    assert (run / "response" / "model" / "model.safetensors").is_file()
    assert list((run / "response").glob("wandb/offline-run-*"))
