import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs import debug, refcoco_unc
from stages import pretrain_clip, train_response
from stages.evaluate_generalized import generalized_splits
from stages.gallery import Gallery
from stages.loading import TrainingBatches, evaluation_loader, make_dataset
from stages.prepare_data import find_official, prepare
from stages.setup import Folders, Stage
from stages.validation import open_scored
from tris.config import DataConfig
from tris.data.index import open_index
from tris.data.tokens import TOKENIZER_FILE, build_tokenizer, train_word_tokenizer
from tris.errors import InputError
from tris.metrics.evaluator import Prediction
from tris.training.fingerprint import check_same
from tris.training.settings import TrainingConfig

NUM_TRAIN, NUM_VAL = 7, 5


def make_config(**changes):
    config = debug.get_config()
    synthetic = dataclasses.replace(
        config.data.synthetic, num_train_images=NUM_TRAIN, num_val_images=NUM_VAL,
        num_test_images=1,
    )  # fmt: skip
    data = dataclasses.replace(config.data, **{"synthetic": synthetic, **changes})
    return dataclasses.replace(config, data=data)


def make_stage(run, *, config=None, data=None, rank=0, count=1):
    accelerator = SimpleNamespace(process_index=rank, num_processes=count, is_main_process=True)
    return Stage(config or make_config(), Folders(run), data, accelerator)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    run = tmp_path_factory.mktemp("prepared") / "run"
    prepare(make_stage(run))
    return run


def test_the_training_split_has_masks_in_the_second_index_only(prepared):
    assert not open_index(prepared / "index", "train").has_masks
    assert open_index(prepared / "index_with_masks", "train").has_masks
    assert open_index(prepared / "index", "val").has_masks


def test_preparing_again_writes_nothing(prepared, capsys):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    assert not prepare(make_stage(prepared))
    assert "is there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_other_embedded_data_are_drawn_anew_with_their_indices(prepared, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(prepared, run)
    config = make_config()
    synthetic = dataclasses.replace(config.data.synthetic, num_val_images=2)
    changed = dataclasses.replace(
        config, data=dataclasses.replace(config.data, synthetic=synthetic)
    )
    assert prepare(make_stage(run, config=changed))
    assert open_index(run / "index", "val").facts.images == 2


def test_a_run_that_was_moved_is_still_its_own(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "moved")
    prepare(make_stage(tmp_path / "moved"))


def official_copy(prepared, folder):
    shutil.copytree(prepared / "data", folder)
    return folder


def test_an_index_of_other_official_files_is_refused(prepared, tmp_path):
    run, config = tmp_path / "run", make_config(synthetic=None, evaluation_splits=("val",))
    one, other = (official_copy(prepared, tmp_path / name) for name in ("one", "other"))
    prepare(make_stage(run, config=config, data=one))
    prepare(make_stage(run, config=config, data=one))
    with pytest.raises(InputError, match="choose another RUN") as raised:
        prepare(make_stage(run, config=config, data=other))
    assert str(one) in str(raised.value)
    assert str(other) in str(raised.value)


def test_an_index_of_what_official_files_were_before_is_refused(prepared, tmp_path):
    run, config = tmp_path / "run", make_config(synthetic=None, evaluation_splits=("val",))
    files = official_copy(prepared, tmp_path / "files")
    prepare(make_stage(run, config=config, data=files))
    (instances,) = files.rglob("instances.json")
    instances.write_text(instances.read_text() + "\n")
    with pytest.raises(InputError, match=r"made of what .*instances\.json held before"):
        prepare(make_stage(run, config=config, data=files))


def test_masks_that_were_drawn_otherwise_are_neither_kept_nor_scored(prepared, tmp_path):
    run, config = tmp_path / "run", make_config(synthetic=None, evaluation_splits=("val",))
    files = official_copy(prepared, tmp_path / "files")
    prepare(make_stage(run, config=config, data=files))
    data = dataclasses.replace(config.data, overlapping_polygons="refer-quirk")
    other = make_stage(run, config=dataclasses.replace(config, data=data), data=files)
    for use in (prepare, lambda stage: open_scored(stage, "val")):
        with pytest.raises(InputError, match="overlapping_polygons=union, not refer-quirk"):
            use(other)


def test_trainings_on_other_files_are_other_trainings(prepared, tmp_path):
    stage = make_stage(prepared)
    moved = make_stage(shutil.copytree(prepared, tmp_path / "moved"))
    drawn = dataclasses.replace(stage.config.data.synthetic, num_val_images=2)
    other = make_stage(tmp_path / "other", config=make_config(synthetic=drawn))
    prepare(other)
    other = dataclasses.replace(other, config=stage.config)
    public = refcoco_unc.get_config()
    for fingerprint in (
        pretrain_clip.fingerprint, lambda stage: train_response.make_fingerprint(stage, public)
    ):  # fmt: skip
        assert fingerprint(stage) == fingerprint(moved)
        with pytest.raises(InputError, match="sources"):
            check_same(fingerprint(stage), fingerprint(other), made=prepared)


def test_grefcoco_is_scored_besides_refcoco_and_nothing_of_it_trained_on(shared_data, tmp_path):
    data = DataConfig(also_scores_grefcoco=True)
    config = dataclasses.replace(debug.get_config(), data=data)
    stage = make_stage(tmp_path / "run", config=config, data=shared_data / "refcoco_mini")
    prepare(stage)
    assert open_index(stage.folders.index, "train").manifest.dataset == "refcoco"
    assert not open_index(stage.folders.index_gres, "train").has_masks
    splits = list(generalized_splits(config, stage.folders))
    assert [name for name, *_ in splits] == ["gres_val", "gres_testA", "gres_testB"]
    assert all(index.has_masks and index.facts.no_target for _, index, _ in splits)


def test_official_files_must_be_named():
    with pytest.raises(InputError, match="refcoco needs its official files"):
        find_official(None, "refcoco")


def test_a_missing_folder_and_one_without_images_are_named(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        find_official(tmp_path / "nowhere", "refcoco")
    with pytest.raises(InputError, match="images/mscoco/images/train2014, images/train2014"):
        find_official(tmp_path, "refcoco")


@pytest.mark.parametrize(
    "place", ["images/mscoco/images/train2014", "images/train2014", "train2014", "images"]
)
def test_images_are_found_where_releases_put_them(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    assert find_official(tmp_path, "refcoco") == (tmp_path, tmp_path / place)


@pytest.fixture(scope="module")
def dataset(prepared):
    stage = make_stage(prepared)
    index = open_index(prepared / "index", "train")
    asset = train_word_tokenizer((s for each in index for s in each.sentences), vocabulary_size=99)
    spec = stage.config.pretrain.encoder.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets={TOKENIZER_FILE: asset})
    return make_dataset(stage, index, spec, tokenizer)


def training_batches(prepared, dataset, *, rank=0, count=1, earlier=(), **settings):
    settings = {"global_batch_size": 4, "num_workers": 0, **settings}
    config = dataclasses.replace(make_config().response.training, **settings)
    earlier = [dataclasses.replace(config, **each) for each in earlier]
    stage = make_stage(prepared, rank=rank, count=count)
    return TrainingBatches(stage, dataset, config, earlier=earlier)


def rows_of(batches, dataset):
    items = batches.plan.items(0, 0)
    return [dataset.index.expression_row(item.expression)[0] for item in items]


def test_images_come_with_as_many_sentences_of_a_referent_as_a_training_says(prepared, dataset):
    most = {"sampling": "images", "sentences_per_image": 0, "sentences_per_referent": 1}
    rows = rows_of(training_batches(prepared, dataset, **most), dataset)
    assert len(rows) == len(set(rows)) > 4
    most["sentences_per_referent"] = 2
    rows = rows_of(training_batches(prepared, dataset, **most), dataset)
    assert max(map(rows.count, rows)) == 2


def test_sentences_of_a_referent_are_not_limited_where_that_has_no_effect_or_no_sense():
    with pytest.raises(InputError, match="sentences_per_referent is for sampling=images"):
        TrainingConfig(sentences_per_referent=1)
    with pytest.raises(InputError, match="give 1 or more, or None for all"):
        TrainingConfig(sampling="images", sentences_per_referent=0)


def test_stage_0_compares_images_with_one_sentence_of_each_referent(prepared, dataset):
    stage = make_stage(prepared)
    config = stage.config.pretrain
    few = dataclasses.replace(config.training, global_batch_size=4)
    config = dataclasses.replace(config, training=few)
    rows = rows_of(pretrain_clip.make_batches(stage, config, dataset), dataset)
    assert len(rows) == len(set(rows)) > config.training.global_batch_size
    two = dataclasses.replace(config.training, sentences_per_referent=2)
    with pytest.raises(InputError, match="one sentence of each referent: leave it out"):
        pretrain_clip.make_batches(stage, dataclasses.replace(config, training=two), dataset)


def take(batches, start, count):
    stream = batches(start)
    return [next(stream).expression_id.tolist() for _ in range(count)]


def test_batches_from_any_pass_on_are_those_of_an_unbroken_stream(prepared, dataset):
    batches = training_batches(prepared, dataset)
    num_steps = batches.plan.num_steps
    whole = take(batches, 0, 2 * num_steps + 2)
    assert num_steps > 2
    for start in (1, num_steps, num_steps + 1):
        assert take(batches, start, 3) == whole[start : start + 3]


@pytest.mark.parametrize("passes", [1, 2])
def test_batches_come_behind_those_of_earlier_trainings(prepared, dataset, passes):
    whole = training_batches(prepared, dataset, gradient_accumulation=passes)
    epoch = round(whole.plan.num_steps / passes)
    earlier = [{"steps": 3}, {"steps": None, "epochs": 1.0}]
    later = training_batches(prepared, dataset, gradient_accumulation=passes, earlier=earlier)
    assert take(later, 0, 4) == take(whole, (3 + epoch) * passes, 4)
    assert take(later, 2, 2) == take(later, 0, 4)[2:]


def test_reading_batches_leaves_the_global_random_numbers_alone(prepared, dataset):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    take(training_batches(prepared, dataset), 0, 9)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_parts_of_two_processes_are_the_batch_of_one(prepared, dataset):
    parts = [take(training_batches(prepared, dataset, rank=rank, count=2), 0, 3) for rank in (0, 1)]
    joined = [one + other for one, other in zip(*parts, strict=True)]
    assert joined == take(training_batches(prepared, dataset), 0, 3)


def test_accumulation_splits_the_global_batch(prepared, dataset):
    batches = training_batches(prepared, dataset, gradient_accumulation=2)
    assert all(len(ids) == 2 for ids in take(batches, 0, 3))
    with pytest.raises(InputError, match="cannot be split into 3 equal passes"):
        training_batches(prepared, dataset, gradient_accumulation=3)


def test_epochs_count_steps_unless_steps_are_given(prepared, dataset):
    per_epoch = len(dataset.index) // 4
    by_epochs = training_batches(prepared, dataset, steps=None, epochs=2.0)
    assert (by_epochs.total_steps, by_epochs.steps_per_epoch) == (2 * per_epoch, per_epoch)
    assert training_batches(prepared, dataset, steps=7, epochs=2.0).total_steps == 7


def test_evaluation_batches_are_whole_ones_whatever_the_number_of_processes(prepared, dataset):
    def share(rank, count):
        stage = make_stage(prepared, rank=rank, count=count)
        loader = evaluation_loader(stage, dataset, images_per_batch=2, num_workers=0)
        return [numbers for numbers, _ in loader]

    alone = share(0, 1)
    assert len(alone) == 4
    assert sorted(share(0, 2) + share(1, 2)) == sorted(alone)
    assert share(3, 5) == [alone[3]]
    assert share(4, 5) == []


def test_the_gallery_keeps_no_mask_of_a_sentence_that_is_refused(prepared):
    index = open_index(prepared / "index", "val")
    gallery = Gallery(index, split="val")
    maps = np.ones((96, 96), np.float32)
    told = (
        Prediction(referent, position, maps, no_target=position == 0)
        for referent in index
        for position in range(len(referent.sentences))
    )
    passed = list(gallery.masks(told))
    assert all(each.response is maps for each in passed)
    shown = {item.expression_id: item.prediction.any() for item in gallery.gather()}
    said = {each.referent.expression_ids[each.position]: not each.no_target for each in passed}
    assert {said[number] for number in shown} == {False, True}
    assert shown == {number: said[number] for number in shown}
