"""Sentences become token ids: CLIP's, BERT's, or a word tokenizer trained on the data itself."""

import hashlib
import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from jaxtyping import Bool, Int
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from tris.batch import TokenizerConfig
from tris.errors import InputError

TOKENIZER_FILE = "tokenizer.json"
"""Name of the trained tokenizer inside a model directory."""

BERT_FILE = "bert_tokenizer.json"
"""Name of BERT's tokenizer there, in the same form."""

PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[START]", "[END]"

_LETTERS = string.ascii_lowercase + string.digits
_NATIVE_LENGTH = 77  # CLIP's own limit: the released TRIS code encodes at it, then cuts


@dataclass(frozen=True)
class Tokenizer:
    """Turns sentences into padded token ids.

    Attributes:
        config: What built it.
        encode_words: Ids of a sentence's pieces, without start and end.
        padding_id: Fills short rows.
        start_id: First token of every sentence.
        end_id: Last token; CLIP's text towers pool where the id is largest, so it is the largest.
        vocabulary_size: Ids are below it.
        assets: Files, by name, that a model directory carries so that it needs no download; those
            of the kinds ``clip`` and ``file`` come with a package and with stage 0.
    """

    config: TokenizerConfig
    encode_words: Callable[[str], list[int]]
    padding_id: int
    start_id: int
    end_id: int
    vocabulary_size: int
    assets: Mapping[str, bytes] = field(default_factory=dict)

    def __call__(
        self, sentences: Sequence[str]
    ) -> tuple[Int[Tensor, "sentences tokens"], Bool[Tensor, "sentences tokens"]]:
        """Return ids and mask (True = real token, start and end included).

        A sentence that is too long loses its last words and keeps the end token. With
        ``keep_end_token=False`` it is first limited to 77 tokens that way (the released code stops
        with an error there), then cut blindly, so that the end token is lost too.
        """
        return self.pad([self.encode(sentence) for sentence in sentences])

    def encode(self, sentence: str) -> list[int]:
        """Return the ids of one sentence, not padded, at most ``context_length``."""
        return self.frame(self.encode_words(sentence))

    def reads_whole(self, sentence: str) -> bool:
        """Say whether no word of the sentence is cut off."""
        return len(self.encode_words(sentence)) + 2 <= self.config.context_length

    def frame(self, words: Sequence[int]) -> list[int]:
        """Return a sentence's pieces between start and end, at most ``context_length``."""
        length = self.config.context_length
        limit = length if self.config.keep_end_token else max(length, _NATIVE_LENGTH)
        return [self.start_id, *words[: limit - 2], self.end_id][:length]

    def pad(
        self, rows: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "sentences tokens"], Bool[Tensor, "sentences tokens"]]:
        """Return rows of at most ``context_length`` ids as one, and which of them are real."""
        length = self.config.context_length
        ids = np.full((len(rows), length), self.padding_id, np.int64)
        lengths = np.array([len(row) for row in rows], np.int64)[:, None]
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = tokens
        return torch.from_numpy(ids), torch.from_numpy(np.arange(length) < lengths)


def build_tokenizer(
    config: TokenizerConfig,
    *,
    assets: Mapping[str, bytes] | None = None,
    may_download: bool = True,
) -> Tokenizer:
    """Make the tokenizer of a config.

    Args:
        config: Which one.
        assets: Files of the model directory by name; kind ``file`` looks there first, under
            ``config.path`` or, where that is empty, `TOKENIZER_FILE`, kind ``bert`` under
            `BERT_FILE`.
        may_download: Whether BERT's may be fetched where it is not here.

    Raises:
        InputError: If the file or the hub's tokenizer cannot be had, or is no tokenizer.
    """
    if config.context_length < 3:
        raise InputError(
            f"A context of {config.context_length} tokens has no room for a word between the start "
            "and the end token: use 3 or more."
        )
    if config.kind == "clip":
        return _clip_tokenizer(config)
    if config.kind == "bert":
        return _bert_tokenizer(config, assets or {}, may_download=may_download)
    return _file_tokenizer(config, assets or {})


def train_word_tokenizer(sentences: Iterable[str], *, vocabulary_size: int) -> bytes:
    """Make a lower-case WordPiece tokenizer of the most frequent words; return its JSON file.

    Ids: padding 0, unknown 1, start 2; the end token has the largest id. A word outside the
    vocabulary is spelled in letters and digits, or becomes the unknown token. The library's own
    trainer is not used: it breaks ties by chance, so that no two runs would agree.

    Args:
        sentences: What it is trained on.
        vocabulary_size: Most ids, special ones and letters included; small sets need fewer.

    Raises:
        InputError: If the vocabulary has no room for words.
    """
    vocabulary = [PADDING, UNKNOWN, START, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    room = vocabulary_size - len(vocabulary) - 1
    if room < 1:
        raise InputError(
            f"A vocabulary of {vocabulary_size} has no room for words beside "
            f"{len(vocabulary) + 1} letters and special tokens: allow more."
        )
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    counts = Counter(
        word
        for sentence in sentences
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(sentence))
    )
    words = sorted(counts.keys() - set(vocabulary), key=lambda word: (-counts[word], word))
    vocabulary += [*words[:room], END]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    return str(tokenizer.to_str(pretty=True)).encode()


@lru_cache(maxsize=1 << 16)
def text_id(sentence: str) -> int:
    """Return a 63-bit hash of the sentence, equal for equal words.

    Case, punctuation and blanks do not count. The same on every machine and in every run.
    """
    digest = hashlib.blake2b(normalize(sentence).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def normalize(sentence: str) -> str:
    """Return the sentence in lower case, without punctuation, words one blank apart."""
    text = unicodedata.normalize("NFKC", sentence).lower()
    return " ".join(re.sub(r"[^\w\s]|_", " ", text).split())


@cache
def _clip() -> SimpleTokenizer:
    return SimpleTokenizer()


def _clip_tokenizer(config: TokenizerConfig) -> Tokenizer:
    clip = _clip()
    return Tokenizer(
        config,
        clip.encode,
        padding_id=0,
        start_id=clip.sot_token_id,
        end_id=clip.eot_token_id,
        vocabulary_size=clip.vocab_size,
    )


def _bert_tokenizer(
    config: TokenizerConfig, assets: Mapping[str, bytes], *, may_download: bool
) -> Tokenizer:
    from transformers import BertTokenizerFast  # here, because importing it takes seconds

    name = config.path or "bert-base-uncased"
    if BERT_FILE in assets:
        carried = tokenizers.Tokenizer.from_str(_read_tokenizer(BERT_FILE, assets))
        bert = BertTokenizerFast(tokenizer_object=carried)
    else:
        try:
            bert = BertTokenizerFast.from_pretrained(name, local_files_only=not may_download)
        except (OSError, ValueError) as error:
            raise InputError(
                f"There is no BERT tokenizer '{name}' here: give its folder or download it first."
            ) from error
    return Tokenizer(
        config,
        partial(bert.encode, add_special_tokens=False),
        padding_id=bert.pad_token_id,
        start_id=bert.cls_token_id,
        end_id=bert.sep_token_id,
        vocabulary_size=len(bert),
        assets={BERT_FILE: bert.backend_tokenizer.to_str().encode()},
    )


def _file_tokenizer(config: TokenizerConfig, assets: Mapping[str, bytes]) -> Tokenizer:
    name = config.path or TOKENIZER_FILE
    tokenizer = tokenizers.Tokenizer.from_str(_read_tokenizer(name, assets))
    numbers: dict[str, int] = tokenizer.get_vocab()
    missing = [token for token in (PADDING, START, END) if token not in numbers]
    if missing:
        raise InputError(f"The tokenizer {name} lacks {', '.join(missing)}: train it again.")
    return Tokenizer(
        config,
        partial(_encode_pieces, tokenizer),
        padding_id=numbers[PADDING],
        start_id=numbers[START],
        end_id=numbers[END],
        vocabulary_size=len(numbers),
    )


def _encode_pieces(tokenizer: tokenizers.Tokenizer, sentence: str) -> list[int]:
    return list(tokenizer.encode(sentence, add_special_tokens=False).ids)


def _read_tokenizer(name: str, assets: Mapping[str, bytes]) -> str:
    if name in assets:
        content = assets[name]
    elif Path(name).is_file():
        content = Path(name).read_bytes()
    else:
        known = ", ".join(sorted(assets)) or "no file"
        raise InputError(f"There is no tokenizer {name}; the model directory has {known}.")
    try:
        description: Any = json.loads(content)
    except ValueError as error:
        raise InputError(f"{name} is no JSON file of the `tokenizers` library.") from error
    if not isinstance(description, dict) or "model" not in description:
        raise InputError(f"{name} is no tokenizer of the `tokenizers` library.")
    return content.decode()
