import csv
import dataclasses

import pytest
import torch

from tris.batch import PhraseErasing, TokenizerConfig
from tris.data.phrases import PhraseEraser, Span, erase_span, find_phrases
from tris.data.tokens import build_tokenizer, train_word_tokenizer

CLIP = build_tokenizer(TokenizerConfig(context_length=20))
WORDS = ["red", "ball", "the", "left", "of", "blue", "box", "on", "woman", "umbrella", "holding"]


@pytest.fixture(scope="module")
def tokenizer():
    content = train_word_tokenizer([" ".join(WORDS)], vocabulary_size=100)
    config = TokenizerConfig(kind="file", context_length=12)
    return build_tokenizer(config, assets={"tokenizer.json": content})


def texts(sentence, kind):
    return [sentence[span.start : span.end] for span in find_phrases(sentence, kind)]


def test_noun_phrases_are_chunks_with_a_noun():
    sentence = "the tall woman holding a red umbrella"
    assert texts(sentence, "noun_phrase") == ["the tall woman", "a red umbrella"]


def test_noun_runs_are_neighbouring_nouns():
    assert texts("a brown car door on the bed", "noun_run") == ["car door", "bed"]


@pytest.mark.parametrize(
    "sentence", ["", " ", "left", "?!", "/ / /", "…", "İİİ ball", "a\nb", "é" * 300]
)
def test_odd_sentences_have_phrases_within_them_or_none(sentence):
    for kind in ("noun_phrase", "noun_run"):
        for span in find_phrases(sentence, kind):
            assert 0 <= span.start < span.end <= len(sentence)


def test_erased_pieces_are_those_of_the_phrase_behind_a_word_of_several_pieces(tokenizer):
    sentence = "skateboarding woman"  # eleven letters' pieces, then one word
    pieces = tokenizer.encode_words("skateboarding")
    assert len(pieces) > 1
    config = dataclasses.replace(tokenizer.config, context_length=40)
    longer = dataclasses.replace(tokenizer, config=config)
    whole = longer.encode(sentence)
    erased = erase_span(longer, sentence, Span(14, 19))
    assert erased == [*whole[: 1 + len(pieces)], longer.padding_id, longer.end_id]


def test_a_span_that_ends_inside_a_word_erases_nothing(tokenizer):
    assert erase_span(tokenizer, "red ball", Span(4, 6)) == tokenizer.encode("red ball")


def test_a_phrase_behind_the_last_token_counts_as_none():
    short = build_tokenizer(TokenizerConfig(context_length=4))
    eraser = PhraseEraser(PhraseErasing(), short, seed=0)
    ids = eraser.erase("there is there is a ball", expression=0, epoch=0)
    assert ids.tolist() == short(["there is there is a ball"])[0][0].tolist()


def test_choice_is_fixed_by_seed_epoch_and_expression_and_changes_with_the_epoch():
    sentence = "a woman holding an umbrella near a car"
    first, second = (PhraseEraser(PhraseErasing(), CLIP, seed=3) for _ in range(2))
    rows = [first.erase(sentence, expression=5, epoch=epoch) for epoch in range(12)]
    again = [second.erase(sentence, expression=5, epoch=epoch) for epoch in range(12)]
    assert all(torch.equal(a, b) for a, b in zip(rows, again, strict=True))
    assert len({tuple(row.tolist()) for row in rows}) == 3
    once = PhraseEraser(PhraseErasing(choice="once"), CLIP, seed=3)
    fixed = [once.erase(sentence, expression=5, epoch=epoch) for epoch in range(12)]
    assert len({tuple(row.tolist()) for row in fixed}) == 1


def test_erasing_keeps_length_and_other_words():
    sentence = "a woman holding an umbrella"
    ids, mask = CLIP([sentence])
    eraser = PhraseEraser(PhraseErasing(), CLIP, seed=0)
    erased = eraser.erase(sentence, expression=0, epoch=0)
    changed = erased != ids[0]
    assert changed.sum() == 2
    assert (erased[changed] == CLIP.padding_id).all()
    assert mask[0][changed].all()


def test_sentences_without_a_phrase_are_counted():
    eraser = PhraseEraser(PhraseErasing(), CLIP, seed=0)
    assert eraser.count(["red ball", "left", "the woman"]) == (3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noun_phrase", "noun_run"])
def test_no_published_sentence_stops_it(shared_data, kind):
    sentences = set()
    for path in sorted((shared_data / "expressions").glob("*.tsv")):
        with path.open(newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            sentences |= {row["sent"] for row in rows}
    count = PhraseEraser(PhraseErasing(phrases=kind), CLIP, seed=0).count(sorted(sentences))
    assert count.sentences > 14_000
    assert count.with_phrase > 0.8 * count.sentences
