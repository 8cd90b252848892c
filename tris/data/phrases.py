"""Noun phrases of a sentence, and the sentence's tokens without one of them (DMMI).

TextBlob's `parse` needs no corpus (its `noun_phrases` does). The tokens of the phrase are found as
word pieces; the released implementation counts words instead and adds one for the start token, so
that behind every word of several pieces it erases something else than the phrase.
"""

import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from tris.batch import PhraseErasing
from tris.data.draws import draw
from tris.data.tokens import Tokenizer

_CAPACITY = 1 << 18
"""Sentences that are kept parsed: more than the training split of RefCOCO or Ref-ZOM has."""


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a sentence."""

    start: int
    end: int


class PhraseCount(NamedTuple):
    """Of how many sentences one could be erased."""

    sentences: int
    with_phrase: int


class PhraseEraser:
    """Takes one phrase out of a sentence's tokens, fixed by (seed, epoch, expression)."""

    def __init__(self, config: PhraseErasing, tokenizer: Tokenizer, *, seed: int) -> None:
        self.config, self._tokenizer, self._seed = config, tokenizer, seed
        self._known: dict[str, tuple[tuple[int, ...], ...]] = {}

    def erase(self, sentence: str, *, expression: int, epoch: int) -> Int[Tensor, "tokens"]:
        """Return the padded tokens without one phrase.

        The phrase's pieces become the padding id; their places stay, so the sentence's own mask
        fits. A sentence without a phrase, or whose phrases lie behind the last token, stays whole.

        Args:
            sentence: As it is read.
            expression: Running number in the split.
            epoch: Of training.
        """
        variants = self._variants(sentence)
        if not variants:
            return self._tokenizer.pad([self._tokenizer.encode(sentence)])[0][0]
        draw_of = 0 if self.config.choice == "once" else epoch
        number = draw("phrase", self._seed, draw_of, expression).integers(len(variants))
        return torch.tensor(variants[number])

    def count(self, sentences: Iterable[str]) -> PhraseCount:
        """Return how many of the sentences have a phrase."""
        found = [bool(self._variants(sentence)) for sentence in sentences]
        return PhraseCount(len(found), sum(found))

    def _variants(self, sentence: str) -> tuple[tuple[int, ...], ...]:
        """Return the sentence's padded tokens without its first phrase, its second, and so on."""
        if sentence not in self._known:
            if len(self._known) >= _CAPACITY:
                self._known.clear()
            self._known[sentence] = self._find_variants(sentence)
        return self._known[sentence]

    def _find_variants(self, sentence: str) -> tuple[tuple[int, ...], ...]:
        whole = self._tokenizer.encode(sentence)
        spans = find_phrases(sentence, self.config.phrases)
        erased = [erase_span(self._tokenizer, sentence, span) for span in spans]
        rows = [row for row in erased if row != whole]
        return tuple(map(tuple, self._tokenizer.pad(rows)[0].tolist()))


def erase_span(tokenizer: Tokenizer, sentence: str, span: Span) -> list[int]:
    """Return the ids of a sentence, not padded, with the padding id for each piece of the span.

    Where the span is no whole number of pieces (it ends inside a word), nothing is erased.
    """
    before, phrase, after = (
        tokenizer.encode_words(part)
        for part in (
            sentence[: span.start],
            sentence[span.start : span.end],
            sentence[span.end :],
        )
    )
    words = tokenizer.encode_words(sentence)
    if [*before, *phrase, *after] == words:
        words = [*before, *([tokenizer.padding_id] * len(phrase)), *after]
    return tokenizer.frame(words)


def find_phrases(sentence: str, kind: Literal["noun_phrase", "noun_run"]) -> list[Span]:
    """Return the phrases of a sentence, first to last; none overlap.

    Args:
        sentence: Any text; case does not matter.
        kind: See `PhraseErasing`.
    """
    words = parse(sentence)
    if kind == "noun_run":
        runs = groupby(words, key=lambda word: word.is_noun)
        return [_cover(list(run)) for is_noun, run in runs if is_noun]
    chunks = groupby(words, key=lambda word: word.chunk)
    phrases = (list(chunk) for number, chunk in chunks if number is not None)
    return [_cover(phrase) for phrase in phrases if any(word.is_noun for word in phrase)]


class Word(NamedTuple):
    """A word of a parsed sentence.

    Attributes:
        span: Where it stands.
        is_noun: Singular or plural, proper or not.
        chunk: Number of the noun chunk it is in, or None.
    """

    span: Span
    is_noun: bool
    chunk: int | None


def parse(sentence: str) -> list[Word]:
    """Return the words that the parser gives back as they stand in the sentence."""
    lowered = sentence.lower()
    text = lowered if len(lowered) == len(sentence) else sentence
    tagged = [token for part in _parser()(text).parse().split() for token in part]
    words: list[Word] = []
    position = chunk = 0
    for form, tag, chunk_tag in (token[:3] for token in tagged):
        start = text.find(form, position)
        if start < 0:
            continue  # the parser spelled it anew
        position = start + len(form)
        chunk += chunk_tag == "B-NP"
        is_inside = chunk_tag.endswith("-NP")
        words.append(
            Word(Span(start, position), tag.startswith("NN"), chunk if is_inside else None)
        )
    return words


@cache
def _parser() -> Any:  # noqa: ANN401 - textblob is untyped
    # Here, because importing it takes a second.
    from textblob import TextBlob

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it never closes its word lists
        TextBlob("a word").parse()
    return TextBlob


def _cover(words: Sequence[Word]) -> Span:
    return Span(words[0].span.start, words[-1].span.end)
