"""Batches of a group-wise segmenter, through the same doors as all others."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from configs import debug
from configs.segmenter import grser_debug
from stages import grouping
from stages.grouping import make_group_source
from stages.loading import TrainingBatches, evaluation_loader, make_dataset
from stages.prepare_data import prepare
from stages.setup import Folders, Stage
from tris.data.absence import ClipFeatures
from tris.data.group_sources import GroupingConfig
from tris.data.groups import GroupPlan
from tris.data.index import open_index
from tris.data.tokens import TOKENIZER_FILE, build_tokenizer, train_word_tokenizer
from tris.errors import InputError


def make_stage(run, *, rank=0, count=1):
    config = debug.get_config()
    synthetic = dataclasses.replace(
        config.data.synthetic, num_train_images=24, num_val_images=3, num_test_images=1
    )
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, synthetic=synthetic),
        segmenter=grser_debug.get_config(),
    )  # fmt: skip
    accelerator = SimpleNamespace(process_index=rank, num_processes=count, is_main_process=True)
    return Stage(config, Folders(run), None, accelerator)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    run = tmp_path_factory.mktemp("grouped") / "run"
    stage = make_stage(run)
    prepare(stage)
    index = open_index(run / "index", "train")
    asset = train_word_tokenizer((s for each in index for s in each.sentences), vocabulary_size=99)
    spec = stage.config.segmenter.network.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets={TOKENIZER_FILE: asset})
    return make_dataset(stage, index, spec, tokenizer)


WITHOUT_CLIP = GroupingConfig(clip_missed_share=1.0)


def training_batches(dataset, *, rank=0, count=1, alone_share=0.0, **changes):
    training = grser_debug.get_config().training
    config = dataclasses.replace(training, global_batch_size=8, **changes)
    stage = make_stage(dataset.index.directory.parent, rank=rank, count=count)
    groups = make_group_source(stage, dataset.index, WITHOUT_CLIP)
    grouping = GroupingConfig(alone_share=alone_share)
    return TrainingBatches(stage, dataset, config, groups=groups, grouping=grouping)


def take(batches, start, count):
    stream = batches(start)
    return [
        list(zip(batch.text_id.tolist(), batch.image_id.tolist(), strict=True))
        for batch in (next(stream) for _ in range(count))
    ]


def test_a_group_wise_network_is_given_groups(dataset):
    batches = training_batches(dataset)
    assert isinstance(batches.plan, GroupPlan)
    batch = next(batches(0))
    assert len(batch.token_ids) == 8
    assert batch.is_no_target.sum() == 4


def test_two_processes_see_the_batch_of_one_and_a_resumed_run_goes_on(dataset):
    alone = training_batches(dataset)
    num_steps = alone.plan.num_steps
    whole = take(alone, 0, num_steps + 2)
    parts = [take(training_batches(dataset, rank=rank, count=2), 0, 3) for rank in (0, 1)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole[:3]
    assert take(alone, num_steps - 1, 3) == whole[num_steps - 1 :]


def test_a_group_wise_network_without_groups_is_a_mistake(dataset):
    stage = make_stage(dataset.index.directory.parent)
    with pytest.raises(ValueError, match="trained on groups"):
        TrainingBatches(stage, dataset, grser_debug.get_config().training)


def test_groups_can_be_taken_apart(dataset):
    assert next(training_batches(dataset)(0)).group_index.any()
    assert not next(training_batches(dataset, alone_share=1.0)(0)).group_index.any()


@pytest.fixture
def features(dataset, monkeypatch):
    """All sentences alike to CLIP, and every photograph as true of one as of any other."""
    index = dataset.index
    rows = [index.expression_row(number)[0] for number in range(index.num_expressions)]
    made = ClipFeatures(
        images=np.ones((1, 1), np.float16),
        sentences=np.ones((index.num_expressions, 1), np.float16),
        image_of_row=np.zeros(len(index), int),
        row_of_expression=np.array(rows),
        true=np.arange(index.num_expressions),
    )
    monkeypatch.setattr(grouping, "load_features", lambda stage, index: made)
    monkeypatch.setattr(Stage, "say", lambda stage, text: None)


def source_of(dataset, **settings):
    config = dataclasses.replace(WITHOUT_CLIP, **settings)
    return make_group_source(make_stage(dataset.index.directory.parent), dataset.index, config)


def test_sentences_that_clip_holds_for_the_same_share_photographs(dataset, features):
    alone, near = source_of(dataset), source_of(dataset, least_similarity=0.9)
    assert len(near.num_positives) == len(alone.num_positives)
    pairs = zip(near.num_positives, alone.num_positives, strict=True)
    assert all(more >= fewer for more, fewer in pairs)
    assert sum(near.num_positives) > sum(alone.num_positives)


def test_clip_refuses_negatives(dataset, features, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(grouping.ClipEvidence, "may_be_true", lambda evidence, sentence, row: True)
    assert source_of(dataset).negatives(0, 2, rng)
    assert not source_of(dataset, clip_missed_share=0.1).negatives(0, 2, rng)


def test_clip_is_not_asked_where_nothing_depends_on_it(dataset, monkeypatch):
    monkeypatch.setattr(grouping, "load_features", None)
    assert source_of(dataset).num_positives


@pytest.mark.parametrize("changes", [{"sampling": "images"}, {"flip_probability": 0.5}])
def test_settings_that_groups_know_nothing_of_are_refused(dataset, changes):
    with pytest.raises(InputError, match="leave both out"):
        training_batches(dataset, **changes)


def test_evaluation_gives_every_expression_to_one_process(dataset):
    numbers = []
    for rank in (0, 1):
        stage = make_stage(dataset.index.directory.parent, rank=rank, count=2)
        for batch_numbers, batch in evaluation_loader(
            stage, dataset, images_per_batch=4, num_workers=0
        ):
            assert len(batch_numbers) == len(batch.token_ids)
            numbers += batch_numbers
    assert sorted(numbers) == list(range(dataset.index.num_expressions))
