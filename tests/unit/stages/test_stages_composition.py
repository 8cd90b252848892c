"""What composing needs of a run: CLIP's embeddings, made once and for the data at hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs import debug
from stages import composition
from stages.composition import SentenceEmbedder, load_features, make_composer
from stages.prepare_data import prepare
from stages.setup import Folders, Stage, load_judge, with_own_clip
from tris.data.compose import CompositionConfig
from tris.data.index import open_index
from tris.data.tokens import TOKENIZER_FILE, train_word_tokenizer


def write_clip(stage, index, *, seed):
    torch.manual_seed(seed)
    sentences = (sentence for each in index for sentence in each.sentences)
    asset = train_word_tokenizer(sentences, vocabulary_size=99)
    config = dataclasses.replace(stage.config.pretrain.encoder, vocabulary_size=99)
    network = config.build()
    network.assets = {TOKENIZER_FILE: asset}
    network.save_pretrained(stage.folders.clip)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    config = debug.get_config()
    synthetic = dataclasses.replace(
        config.data.synthetic, num_train_images=12, num_val_images=2, num_test_images=1
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, synthetic=synthetic))
    accelerator = SimpleNamespace(
        process_index=0, num_processes=1, is_main_process=True, device=torch.device("cpu"),
        wait_for_everyone=lambda: None, print=print,
    )  # fmt: skip
    run = tmp_path_factory.mktemp("composition") / "run"
    stage = Stage(config, Folders(run), None, accelerator)
    prepare(stage)
    return stage


@pytest.fixture
def stage(prepared):
    """A run with a CLIP that has embedded nothing yet."""
    write_clip(prepared, open_index(prepared.folders.index, "train"), seed=0)
    (prepared.folders.run / "composition.npz").unlink(missing_ok=True)
    return prepared


@pytest.fixture
def index(stage):
    return open_index(stage.folders.index, "train")


def test_embeddings_are_kept_until_clip_or_the_text_is_another(stage, index, monkeypatch):
    calls = []
    embed_split = composition.embed_split
    monkeypatch.setattr(
        composition, "embed_split",
        lambda *given, **named: calls.append(named) or embed_split(*given, **named),
    )  # fmt: skip
    first = load_features(stage, index)
    again = load_features(stage, index)
    assert len(calls) == 1
    assert np.array_equal(first.sentences, again.sentences)
    write_clip(stage, index, seed=1)
    assert not np.array_equal(load_features(stage, index).sentences, first.sentences)
    raw = dataclasses.replace(stage.config.data, text="raw")
    other = dataclasses.replace(stage, config=dataclasses.replace(stage.config, data=raw))
    load_features(other, index)
    assert [each["text"] for each in calls] == ["clean", "clean", "raw"]


def test_a_sentence_is_embedded_as_the_split_was(stage, index):
    features = load_features(stage, index)
    embed = SentenceEmbedder(load_judge(with_own_clip(stage)))
    for number in (0, 7):
        row, position = index.expression_row(number)
        alone = embed(index[row].sentences[position])
        np.testing.assert_allclose(alone, features.sentences[number], atol=2e-3)


def test_a_training_says_what_it_composes(stage, index, capsys):
    everything = CompositionConfig(
        single_share=0.0, multi_share=1.0, none_share=0.0, max_overlap=1.0
    )
    tokenizer = SimpleNamespace(reads_whole=lambda sentence: True)
    make_composer(stage, index, everything, targets="truth", tokenizer=tokenizer)
    assert "mean one object" in capsys.readouterr().out
