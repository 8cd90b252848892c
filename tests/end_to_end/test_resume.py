"""A training that was killed, or stopped, ends with the weights of one that was not."""

import json
import shutil
import signal

import pytest

pytestmark = pytest.mark.slow

# An epoch of the miniature has 10 steps: 7 is inside the first, 13 inside the second.
EVERYTHING_ON = (
    "--{0}.training.ema-decay=0.9",
    "--{0}.training.gradient-accumulation=2",
    "--{0}.training.clip-norm=1.0",
)
STAGES = {
    "response": ("train_response", ["data", "index", "clip"]),
    "segmenter": (
        "train_segmenter", ["data", "index", "clip", "response", "labels"],
    ),
}  # fmt: skip


@pytest.fixture
def unfinished_copy(copy_of_run, tmp_path):
    """What the stage needs, and nothing of its own."""

    def copy(job, name="run"):
        return copy_of_run(*STAGES[job][1], name=name)

    return copy


def checkpoint(run, job, step):
    return run / job / "checkpoints" / f"step-{step:08d}"


def kill_and_resume(zygote, job, run, step, arguments):
    stage = STAGES[job][0]
    running = zygote.start(stage, arguments)
    codes = running.signal_once_there(checkpoint(run, job, step), signal.SIGKILL)
    assert codes == [-signal.SIGKILL], running.output
    assert not (run / job / "finished.json").exists()
    return zygote.run(stage, arguments)


@pytest.mark.parametrize(("job", "step"), [("response", 7), ("segmenter", 14)])
def test_a_killed_training_resumes_to_the_weights_of_an_unbroken_one(
    finished_run, unfinished_copy, zygote, run_settings, weights_of, job, step
):
    run = unfinished_copy(job)
    arguments = run_settings(run, f"--{job}.training.checkpoint-steps=7")
    kill_and_resume(zygote, job, run, step, arguments)
    assert weights_of(run / job / "model") == weights_of(finished_run / job / "model")


@pytest.mark.parametrize("job", ["response", "segmenter"])
def test_with_workers_average_accumulation_and_clipping_resuming_is_exact_too(
    finished_run, unfinished_copy, zygote, run_settings, weights_of, job
):
    overrides = [each.format(job) for each in EVERYTHING_ON]
    unbroken = unfinished_copy(job, "unbroken")
    zygote.run(STAGES[job][0], run_settings(unbroken, *overrides))
    broken = unfinished_copy(job, "broken")
    overrides += [f"--{job}.training.checkpoint-steps=7", f"--{job}.training.num-workers=2"]
    kill_and_resume(zygote, job, broken, 7, run_settings(broken, *overrides))
    weights = weights_of(broken / job / "model")
    assert weights == weights_of(unbroken / job / "model")
    assert weights != weights_of(finished_run / job / "model")


def test_ctrl_c_saves_a_checkpoint_and_exits_with_130_and_the_training_goes_on_exactly(
    finished_run, unfinished_copy, zygote, run_settings, weights_of
):
    run = unfinished_copy("response")
    arguments = run_settings(run, "--response.training.checkpoint-steps=5")
    running = zygote.start("train_response", arguments)
    codes = running.signal_once_there(checkpoint(run, "response", 5), signal.SIGINT)
    assert codes == [130], running.output
    assert "Interrupted." in running.output
    assert "Traceback" not in running.output
    saved = json.loads((newest(run / "response") / "progress.json").read_text())
    assert 5 <= saved["step"] < 24
    zygote.run("train_response", arguments)
    assert weights_of(run / "response" / "model") == weights_of(finished_run / "response" / "model")


def newest(job_folder):
    return sorted((job_folder / "checkpoints").glob("step-*"))[-1]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_second_training_of_a_run_is_refused_by_every_process_and_the_first_goes_on(
    finished_run, unfinished_copy, zygote, run_settings, weights_of, num_processes
):
    run = unfinished_copy("response")
    arguments = run_settings(run, "--response.training.checkpoint-steps=5")
    first = zygote.start("train_response", arguments)
    first.wait_for(checkpoint(run, "response", 5))
    first.signal(signal.SIGSTOP)
    second = zygote.start("train_response", arguments, num_processes=num_processes)
    assert second.wait() == [2] * num_processes, second.output
    assert second.output.count(f"error: process {first.pids[0]} on ") == num_processes
    first.signal(signal.SIGCONT)
    assert first.wait() == [0], first.output
    assert weights_of(run / "response" / "model") == weights_of(finished_run / "response" / "model")
    assert not list((run / "response").glob("lock-*"))


@pytest.fixture
def stopped(unfinished_copy, zygote, run_settings):
    """A stage 1 that was killed after its evaluation at step 12."""
    run = unfinished_copy("response", "stopped")
    arguments = run_settings(run, "--response.training.checkpoint-steps=13")
    running = zygote.start("train_response", arguments)
    running.signal_once_there(checkpoint(run, "response", 13), signal.SIGKILL)
    return run


def test_a_checkpoint_keeps_the_best_figures_and_the_dashboards_run(stopped):
    saved = json.loads((newest(stopped / "response") / "progress.json").read_text())
    assert set(saved["best"]) == {"mean_iou", "peak_in_mask_accuracy"}
    assert len(saved["tracker_id"]) == 8
    assert (stopped / "response" / "best_mean_iou" / "config.json").is_file()


def test_a_torn_checkpoint_is_swept_away_and_not_picked_up(
    finished_run, stopped, zygote, run_settings, weights_of
):
    whole = newest(stopped / "response")
    torn = whole.parent / ".step-00000020.part"
    shutil.copytree(whole, torn)
    (torn / "shared.pt").write_bytes((whole / "shared.pt").read_bytes()[:1000])
    zygote.run("train_response", run_settings(stopped))
    assert not torn.exists()
    resumed = weights_of(stopped / "response" / "model")
    assert resumed == weights_of(finished_run / "response" / "model")


def test_a_checkpoint_of_other_settings_is_refused_and_the_difference_named(
    stopped, zygote, run_settings
):
    arguments = run_settings(stopped, "--response.training.learning-rate=0.5")
    before = (stopped / "config.json").read_bytes()
    sentence = zygote.fail("train_response", arguments)
    assert (stopped / "config.json").read_bytes() == before
    assert "learning_rate: 0.001 there, 0.5 now" in sentence
    assert str(stopped / "response") in sentence


def test_a_damaged_checkpoint_is_named(stopped, zygote, run_settings):
    path = newest(stopped / "response") / "shared.pt"
    path.write_bytes(path.read_bytes()[:1000])
    assert str(path) in zygote.fail("train_response", run_settings(stopped))


def test_another_seed_gives_other_weights(
    finished_run, unfinished_copy, zygote, run_settings, weights_of
):
    run = unfinished_copy("response")
    zygote.run("train_response", run_settings(run, "--seed=1"))
    assert weights_of(run / "response" / "model") != weights_of(finished_run / "response" / "model")


def test_stage_zero_sweeps_what_a_killed_one_left_beside_its_model(
    copy_of_run, zygote, run_settings
):
    run = copy_of_run("data", "index")
    torn = run / ".clip-12345678"
    torn.mkdir()
    zygote.run("pretrain_clip", run_settings(run, "--pretrain.training.steps=1"))
    assert not torn.exists()
    assert (run / "clip" / "config.json").is_file()
