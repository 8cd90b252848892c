import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from configs import debug
from configs.segmenter import grser_debug
from stages import label_settings
from stages.evaluate import trained_jobs
from stages.label_settings import active_label, active_selection
from stages.rounds import adopt_training, find_round, make_fingerprint
from stages.setup import Folders, Stage
from tris.config import SelfTrainingConfig
from tris.data.manifest import Manifest, write_manifest
from tris.errors import InputError
from tris.folder_lock import FolderLock
from tris.pseudo.label_presets import EMBEDDED_LABELS
from tris.pseudo.prms import PrmsConfig
from tris.training.checkpoint import CheckpointStore
from tris.training.fingerprint import check_same


def make_stage(run, *, rounds=2, name="tris", switches=(), **later):
    config = debug.get_config()
    config = dataclasses.replace(
        config,
        self_training=SelfTrainingConfig(**later),
        segmenter=dataclasses.replace(config.segmenter, name=name, rounds=rounds),
    )
    accelerator = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)
    return Stage(config, Folders(run), None, accelerator, frozenset(switches))


def test_a_single_round_is_trained_where_the_segmenter_is_looked_for(tmp_path):
    this = find_round(make_stage(tmp_path, rounds=1), 1)
    assert (this.job, this.labels, this.start) == ("segmenter", tmp_path / "labels", None)


def test_the_last_of_several_rounds_is_the_segmenter_and_starts_from_the_one_before(tmp_path):
    stage = make_stage(tmp_path, rounds=2)
    first, last = find_round(stage, 1), find_round(stage, 2)
    assert (first.job, first.labels) == ("rounds/1/segmenter", tmp_path / "labels")
    assert (last.job, last.labels) == ("segmenter", tmp_path / "rounds" / "2" / "labels")
    assert last.start == tmp_path / "rounds" / "1" / "segmenter" / "model"


def test_rounds_of_two_segmenters_of_one_run_do_not_meet(tmp_path):
    stage = make_stage(tmp_path, rounds=2, name="dmmi")
    first, last = find_round(stage, 1), find_round(stage, 2)
    assert (first.job, last.job) == ("rounds/1/segmenter_dmmi", "segmenter_dmmi")
    assert last.labels == tmp_path / "rounds" / "2" / "labels_dmmi"


def test_names_of_artifacts_hold_no_folder_and_differ(tmp_path):
    stage = make_stage(tmp_path, rounds=3)
    rounds = [find_round(stage, number) for number in (1, 2, 3)]
    names = [name for this in rounds for name in (this.name, this.labels_name)]
    assert len(set(names)) == 6
    assert not any("/" in name for name in names)


def test_earlier_rounds_are_scored_of_the_segmenter_and_of_the_ceiling(tmp_path):
    jobs = ["rounds/1/segmenter", "segmenter", "rounds/1/ceiling", "ceiling", "segmenter_dmmi"]
    for job in jobs:
        (tmp_path / job / "model").mkdir(parents=True)
        (tmp_path / job / "model" / "config.json").touch()
    rows = ["segmenter_round1", "segmenter", "ceiling_round1", "ceiling", "segmenter_dmmi"]
    assert list(trained_jobs(make_stage(tmp_path))) == list(zip(rows, jobs, strict=True))


def test_the_ceiling_has_as_many_rounds(tmp_path):
    stage = make_stage(tmp_path, rounds=2, switches=["ceiling"])
    assert [find_round(stage, n).job for n in (1, 2)] == ["rounds/1/ceiling", "ceiling"]


def test_later_rounds_have_their_own_steps_and_rate_and_the_first_keeps_its_own(tmp_path):
    stage = make_stage(tmp_path, steps=7, learning_rate=0.5)
    first, last = find_round(stage, 1), find_round(stage, 2)
    assert first.training == stage.config.segmenter.training
    assert (last.training.steps, last.training.learning_rate) == (7, 0.5)
    assert last.training.global_batch_size == first.training.global_batch_size


def test_a_round_knows_the_trainings_before_it_so_that_it_reads_on_behind_them(tmp_path):
    stage = make_stage(tmp_path, rounds=3, steps=7)
    first, second, third = (find_round(stage, number) for number in (1, 2, 3))
    assert first.earlier == ()
    assert second.earlier == (first.training,)
    assert third.earlier == (first.training, second.training)


def test_how_far_earlier_rounds_read_counts_and_how_often_they_logged_does_not(tmp_path):
    def fingerprint(**training):
        stage = make_stage(tmp_path, steps=7)
        segmenter = stage.config.segmenter
        changed = dataclasses.replace(segmenter.training, **training)
        segmenter = dataclasses.replace(segmenter, training=changed)
        config = dataclasses.replace(stage.config, segmenter=segmenter)
        stage = dataclasses.replace(stage, config=config, switches=frozenset(["ceiling"]))
        return make_fingerprint(stage, find_round(stage, 2))

    (tmp_path / "index").mkdir()
    write_manifest(Manifest("refcoco", "unc", "images", {}), tmp_path / "index")
    start = tmp_path / "rounds" / "1" / "ceiling" / "model"
    start.mkdir(parents=True)
    save_file({"weight": torch.ones(2)}, start / "model.safetensors")
    known = fingerprint(steps=3)
    check_same(known, fingerprint(steps=3, num_workers=5, log_every=9), made=tmp_path)
    with pytest.raises(InputError, match=r"read_before.1.steps: 3 there, 4 now"):
        check_same(known, fingerprint(steps=4), made=tmp_path)
    with pytest.raises(InputError, match=r"read_before.1.epochs"):
        check_same(known, fingerprint(steps=None, epochs=3.0), made=tmp_path)


def test_without_their_own_later_rounds_are_trained_like_the_first(tmp_path):
    stage = make_stage(tmp_path)
    assert find_round(stage, 2).training == stage.config.segmenter.training


@pytest.mark.parametrize("later", [{"steps": 0}, {"learning_rate": -1.0}])
def test_later_rounds_that_cannot_be_trained_are_refused_before_the_first(later):
    (name,) = later
    with pytest.raises(InputError, match=rf"self_training\.{name} is "):
        SelfTrainingConfig(**later)


def finish(folder, fingerprint):
    folder.mkdir(parents=True)
    (folder / "finished.json").write_text(json.dumps({"fingerprint": fingerprint, "best": {}}))


def test_a_training_of_fewer_rounds_is_moved_to_its_place(tmp_path):
    finish(tmp_path / "segmenter", {"seed": 0})
    stage = make_stage(tmp_path)
    adopt_training(stage, find_round(stage, 1), {"seed": 0})
    assert not (tmp_path / "segmenter").exists()
    assert (tmp_path / "rounds" / "1" / "segmenter" / "finished.json").is_file()


def begin(folder, fingerprint, *, step=3):
    store = CheckpointStore(folder / "checkpoints", keep=2)
    store.begin(step)
    store.finish(step, {"step": step, "fingerprint": fingerprint})


def test_a_begun_training_of_fewer_rounds_is_moved_and_can_go_on(tmp_path):
    begin(tmp_path / "segmenter", {"seed": 0})
    stage = make_stage(tmp_path)
    this = find_round(stage, 1)
    adopt_training(stage, this, {"seed": 0})
    assert not (tmp_path / "segmenter").exists()
    moved = CheckpointStore(stage.folders.job(this.job) / "checkpoints", keep=2)
    assert moved.latest().name == "step-00000003"


def test_a_training_of_fewer_rounds_that_still_runs_is_not_moved(tmp_path):
    (tmp_path / "segmenter").mkdir()
    held = FolderLock(tmp_path / "segmenter", process_index=0, num_processes=1)
    stage = make_stage(tmp_path)
    with pytest.raises(InputError, match=r"is training .*segmenter: wait for it"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})
    begin(tmp_path / "segmenter", {"seed": 0})
    with pytest.raises(InputError, match=r"is training .*segmenter: wait for it"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})
    held.release()
    adopt_training(stage, find_round(stage, 1), {"seed": 0})
    assert not (tmp_path / "segmenter").exists()


def test_a_begun_training_of_other_settings_is_refused_before_any_round_is_trained(tmp_path):
    begin(tmp_path / "segmenter", {"seed": 0}, step=1)
    begin(tmp_path / "segmenter", {"seed": 1}, step=2)
    stage = make_stage(tmp_path)
    with pytest.raises(InputError, match="seed: 1 there, 0 now"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})
    assert (tmp_path / "segmenter" / "checkpoints").is_dir()


def test_a_begun_last_round_stays_and_a_begun_later_one_is_refused(tmp_path):
    begin(tmp_path / "segmenter", {"seed": 0, "round": 2})
    for number in (1, 2):
        stage = make_stage(tmp_path)
        adopt_training(stage, find_round(stage, number), {"seed": 0})
    assert (tmp_path / "segmenter" / "checkpoints").is_dir()
    stage = make_stage(tmp_path, rounds=1)
    with pytest.raises(InputError, match="give ROUNDS=2"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})


def test_a_training_whose_place_is_taken_is_refused_before_any_round_is_trained(tmp_path):
    for folder in ("segmenter", "rounds/1/segmenter"):
        finish(tmp_path / folder, {"seed": 0})
    stage = make_stage(tmp_path)
    with pytest.raises(InputError, match="both hold round 1"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})


def test_the_last_round_is_not_taken_for_an_earlier_one(tmp_path):
    finish(tmp_path / "segmenter", {"seed": 0, "round": 2})
    stage = make_stage(tmp_path)
    adopt_training(stage, find_round(stage, 1), {"seed": 0})
    assert (tmp_path / "segmenter").exists()


def test_a_training_of_other_settings_is_refused_before_any_round_is_trained(tmp_path):
    finish(tmp_path / "segmenter", {"seed": 1})
    stage = make_stage(tmp_path)
    with pytest.raises(InputError, match="seed: 1 there, 0 now"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})
    assert (tmp_path / "segmenter" / "finished.json").is_file()


def test_a_single_round_is_never_moved(tmp_path):
    finish(tmp_path / "segmenter", {"seed": 0})
    stage = make_stage(tmp_path, rounds=1)
    adopt_training(stage, find_round(stage, 1), {"seed": 0})
    assert (tmp_path / "segmenter").exists()


def test_a_run_of_more_rounds_than_are_asked_for_is_refused_with_their_number(tmp_path):
    finish(tmp_path / "segmenter", {"seed": 0, "round": 3})
    stage = make_stage(tmp_path, rounds=2)
    with pytest.raises(InputError, match="give ROUNDS=3"):
        adopt_training(stage, find_round(stage, 1), {"seed": 0})


def test_no_round_at_all_is_refused():
    with pytest.raises(InputError, match="at least 1 round"):
        dataclasses.replace(debug.get_config().segmenter, rounds=0)


def test_a_group_wise_segmenter_has_one_round(tmp_path):
    config = dataclasses.replace(debug.get_config(), segmenter=grser_debug.get_config())
    stage = dataclasses.replace(make_stage(tmp_path), config=config)
    assert find_round(stage, 1).job == "segmenter_grser"
    two = dataclasses.replace(config, segmenter=dataclasses.replace(config.segmenter, rounds=2))
    with pytest.raises(InputError, match="ROUNDS=1"):
        find_round(dataclasses.replace(stage, config=two), 1)


def test_settings_of_what_is_off_do_not_count_among_those_of_labels():
    assert set(active_selection(PrmsConfig())) == {"activation", "maps_per_pass"}
    assert {"competition", "competing", "components"}.isdisjoint(active_label(EMBEDDED_LABELS))


def test_settings_of_what_is_on_count():
    assert active_selection(PrmsConfig(method="margin"))["temperature"] == 0.1
    competing = dataclasses.replace(EMBEDDED_LABELS, competition="image")
    assert active_label(competing)["competing"]["crf"]["unary"] == "logit"
    in_one_piece = dataclasses.replace(EMBEDDED_LABELS, components="highest")
    assert active_label(in_one_piece)["components"] == "highest"


RIVALS = PrmsConfig(method="margin", rival_weight=1.0)


@pytest.mark.parametrize("selection", [PrmsConfig(), PrmsConfig(method="margin", rival_weight=0.0)])
def test_without_rivals_or_competition_nothing_of_it_counts(selection):
    assert active_label(EMBEDDED_LABELS, selection) == active_label(EMBEDDED_LABELS)


def test_merging_by_rivals_counts_who_is_one_without_a_competition():
    counted = active_label(EMBEDDED_LABELS, RIVALS)["competing"]
    assert counted == {"uses_annotation_ids": True, "shared_sentences": 0.5}
    competing = dataclasses.replace(EMBEDDED_LABELS, competition="image")
    assert active_label(competing, RIVALS) == active_label(competing)


@pytest.mark.parametrize(
    ("selection", "uses_ids", "digests"), [(RIVALS, True, 2), (RIVALS, False, 1), (None, True, 1)]
)
def test_annotation_ids_are_digested_where_rivals_are_told_by_them(
    tmp_path, monkeypatch, selection, uses_ids, digests
):
    index = SimpleNamespace(manifest=SimpleNamespace(dataset="refcoco"), split="train")
    monkeypatch.setattr(label_settings, "open_index", lambda *_: index)
    monkeypatch.setattr(label_settings, "digest_of_index", lambda *_: "digest")
    competing = dataclasses.replace(EMBEDDED_LABELS.competing, uses_annotation_ids=uses_ids)
    label = dataclasses.replace(EMBEDDED_LABELS, competing=competing)
    data = label_settings.training_data(make_stage(tmp_path), label, selection)
    assert len(data) == digests
