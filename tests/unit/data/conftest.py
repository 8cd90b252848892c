from pathlib import Path

import pytest

from tris.batch import InputSpec, TokenizerConfig
from tris.data.index import Index, open_index
from tris.data.prepare.refer import prepare_refer
from tris.data.synthetic import SyntheticConfig, write_synthetic
from tris.data.tokens import Tokenizer, build_tokenizer, train_word_tokenizer

WORDS = TokenizerConfig(kind="file", context_length=12)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    """A small embedded data set: 30 training images, 8 each for validation and test."""
    out = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(SyntheticConfig(num_train_images=30, num_val_images=8, num_test_images=8), out)
    return out


@pytest.fixture(scope="session")
def index_folder(synthetic) -> Path:
    """Its index, with all masks."""
    return prepare_refer(
        dataset="refcoco",
        source=synthetic / "refcoco",
        images=synthetic / "images",
        out=synthetic.parent / "index",
    )


@pytest.fixture(scope="session")
def train_index(index_folder) -> Index:
    return open_index(index_folder, "train")


@pytest.fixture(scope="session")
def blind_index(synthetic) -> Index:
    """The training split of an index without training masks."""
    folder = prepare_refer(
        dataset="refcoco",
        source=synthetic / "refcoco",
        images=synthetic / "images",
        out=synthetic.parent / "blind_index",
        keep_training_masks=False,
    )
    return open_index(folder, "train")


@pytest.fixture(scope="session")
def words(train_index) -> Tokenizer:
    sentences = (sentence for referent in train_index for sentence in referent.sentences)
    content = train_word_tokenizer(sentences, vocabulary_size=200)
    return build_tokenizer(WORDS, assets={"tokenizer.json": content})


@pytest.fixture(scope="session")
def spec() -> InputSpec:
    return InputSpec(image_size=(48, 48), tokenizer=WORDS)
