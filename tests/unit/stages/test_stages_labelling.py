"""Filling a store where referents are joined: they share a label, whenever each of them is made."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from configs import debug
from stages import labelling
from stages.labelling import (
    Labelling,
    batch_keys,
    check_components,
    fill_store,
    keys_by_expression,
    label_share,
)
from stages.setup import Folders, Stage
from tris.batch import InputSpec, TokenizerConfig
from tris.data.index import IndexWriter, Referent, open_index
from tris.data.tokens import TOKENIZER_FILE, train_word_tokenizer
from tris.errors import InputError
from tris.pseudo.averaging import average_maps
from tris.pseudo.label_presets import EMBEDDED_COMPETING_LABELS
from tris.pseudo.manifest import LabelSettings
from tris.pseudo.store import open_label_store
from tris.pseudo.store_writer import finish_label_store

SIZE = 64
SHARD = "shard-00000-of-00001.jsonl"
SETTINGS = LabelSettings(config={}, weights={}, data={})
LABEL = replace(EMBEDDED_COMPETING_LABELS, refiner="threshold")
SENTENCES = [2, 1, 1]
"""Of each referent of the one image; none is said of two of them."""
MAPS = [((0, 32), 8.0), ((0, 32), 8.0), ((0, 30), 4.0), ((40, 64), 8.0)]
"""Of each sentence: the columns that it finds, and how sure it is of all pixels."""


def segment(batch):
    columns = torch.arange(SIZE)
    maps = []
    for number in batch.expression_id.tolist():
        (start, end), logit = MAPS[number]
        row = torch.where((columns >= start) & (columns < end), logit, -logit)
        maps.append(row.expand(SIZE, SIZE))
    return torch.stack(maps)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "count_workers", lambda stage: 0)
    accelerator = SimpleNamespace(
        process_index=0, num_processes=1, is_main_process=True, device=torch.device("cpu"),
        wait_for_everyone=lambda: None,
    )  # fmt: skip
    return Stage(debug.get_config(), Folders(tmp_path), None, accelerator)


def write_index(tmp_path, objects):
    """One image with a referent per set of objects."""
    tmp_path.mkdir(exist_ok=True)
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.png")
    with IndexWriter(tmp_path / "index", dataset="toy", images=tmp_path) as writer:
        first = 0
        for number, (count, own) in enumerate(zip(SENTENCES, objects, strict=True)):
            texts = tuple(f"thing {number} number {n}" for n in range(count))
            writer.add("train", Referent(
                number, 1, "a.png", SIZE, SIZE, tuple(range(first, first + count)), texts, texts,
                annotation_ids=own, is_no_target=not own,
            ))  # fmt: skip
            first += count
    return open_index(tmp_path / "index", "train")


@pytest.fixture
def index(tmp_path):
    return write_index(tmp_path, [(0,), (1,), (2,)])


def test_sentences_about_nothing_have_no_label(tmp_path):
    keys = keys_by_expression(write_index(tmp_path, [(0,), (), (1,)]))
    assert keys == [("toy", 0), ("toy", 0), None, ("toy", 2)]
    assert batch_keys(keys, [0, 1, 2]) == {("toy", 0)}


@pytest.fixture
def make_labelling(index, tmp_path):
    """Return a function that says how a store of a name is filled."""
    spec = InputSpec((SIZE, SIZE), tokenizer=TokenizerConfig("file", context_length=8))
    assets = {TOKENIZER_FILE: train_word_tokenizer(["thing number"], vocabulary_size=99)}

    def make(name):
        return Labelling(
            directory=tmp_path / name, settings=SETTINGS, index=index,
            network=SimpleNamespace(input_spec=spec, assets=assets),
            make_maps=partial(average_maps, segment, index=index, label=LABEL), label=LABEL,
            num_readers=0, log=tmp_path, used="", artifact="",
        )  # fmt: skip

    return make


@pytest.fixture
def fill(stage, make_labelling, tmp_path):
    """Return a function that makes the labels that a store of a name lacks."""

    def make(name):
        label_share(stage, make_labelling(name))
        return tmp_path / name

    return make


@pytest.fixture
def finish(fill):
    """Return a function that makes a whole store."""

    def make(name):
        directory = fill(name)
        finish_label_store(directory, expected_keys={("toy", number) for number in range(3)})
        return directory

    return make


def test_joined_referents_share_a_label_and_others_compete(finish):
    assert LABEL.competing.map_overlap == 0.8
    store = open_label_store(finish("labels"))
    labels = [store.get("toy", number) for number in range(3)]
    for label, columns in zip(labels, [(0, 32), (0, 32), (40, 64)], strict=True):
        wanted = np.zeros((SIZE, SIZE), np.uint8)
        wanted[:, slice(*columns)] = 1
        np.testing.assert_array_equal(label, wanted)


@pytest.mark.parametrize("done", [0, 1, 2])
def test_labelling_that_was_stopped_within_a_class_goes_on_to_the_same_labels(fill, tmp_path, done):
    whole = (fill("whole") / SHARD).read_bytes().splitlines(keepends=True)
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "settings.json").write_bytes((tmp_path / "whole" / "settings.json").read_bytes())
    (torn / SHARD).write_bytes(b"".join(whole[:done]) + whole[done][:40])
    fill("torn")
    assert (torn / SHARD).read_bytes() == b"".join(whole)


def test_referents_of_several_objects_are_not_cut_to_one(stage, tmp_path):
    label = replace(LABEL, components="highest")
    several = write_index(tmp_path / "several", [(0,), (1, 2), ()])
    check_components(LABEL, several)
    labels = Labelling(
        directory=tmp_path / "labels", settings=SETTINGS, index=several, network=None,
        make_maps=None, label=label, num_readers=0, log=tmp_path, used="", artifact="",
    )  # fmt: skip
    with pytest.raises(InputError, match="1 referents of toy/train stand for several objects"):
        fill_store(stage, labels, replaces=False)
    assert not labels.directory.exists()


def test_referents_of_one_object_may_be_in_one_piece(index):
    check_components(replace(LABEL, components="highest"), index)


def reseeded(stage):
    return replace(stage, config=replace(stage.config, seed=stage.config.seed + 1))


def test_labels_that_are_made_keep_the_config_and_labels_that_are_there_do_not(
    stage, finish, make_labelling
):
    finish("labels")
    config = stage.folders.config
    before = config.read_bytes()
    assert json.loads(before)["seed"] == stage.config.seed
    fill_store(reseeded(stage), make_labelling("labels"), replaces=True)
    assert config.read_bytes() == before
    label_share(reseeded(stage), make_labelling("more labels"))
    assert json.loads(config.read_bytes())["seed"] == stage.config.seed + 1


@pytest.mark.parametrize("is_whole", [True, False])
def test_labels_of_other_settings_leave_the_config(stage, fill, finish, make_labelling, is_whole):
    (finish if is_whole else fill)("labels")
    before = stage.folders.config.read_bytes()
    other = replace(make_labelling("labels"), settings=replace(SETTINGS, config={"text": "raw"}))
    with pytest.raises(InputError, match="other weights or settings"):
        fill_store(reseeded(stage), other, replaces=False)
    assert stage.folders.config.read_bytes() == before
