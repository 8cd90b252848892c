import dataclasses

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tris.batch import TokenizerConfig
from tris.data.tokens import build_tokenizer, normalize, text_id, train_word_tokenizer
from tris.errors import InputError

SENTENCES = ["large purple triangle", "circle on the left", "circle right of the red square"]


@pytest.fixture(scope="module")
def trained() -> bytes:
    return train_word_tokenizer(SENTENCES, vocabulary_size=200)


@pytest.fixture(scope="module")
def words(trained):
    config = TokenizerConfig(kind="file", context_length=8)
    return build_tokenizer(config, assets={"tokenizer.json": trained})


class TestClip:
    def test_ids_equal_those_of_open_clip(self):
        tokenizer = build_tokenizer(TokenizerConfig(kind="clip", context_length=77))
        ids, mask = tokenizer(["A dog, running!", "the café's door"])
        assert torch.equal(ids, open_clip.tokenize(["A dog, running!", "the café's door"]))
        assert torch.equal(mask, ids != 0)

    def test_a_long_sentence_keeps_its_end_token(self):
        ids, mask = build_tokenizer(TokenizerConfig(context_length=20))(["left " * 40])
        assert ids[0, -1] == 49407
        assert ids[0, 0] == 49406
        assert mask.all()

    def test_the_released_cut_loses_the_end_token(self):
        config = TokenizerConfig(context_length=20, keep_end_token=False)
        ids, _ = build_tokenizer(config)(["left " * 40, "a dog"])
        assert 49407 not in ids[0]
        assert torch.equal(ids[0], open_clip.tokenize(["left " * 40])[0, :20])
        assert ids[1].argmax() == 3

    def test_a_sentence_of_over_77_tokens_is_cut_too(self):
        config = TokenizerConfig(context_length=77, keep_end_token=False)
        ids, _ = build_tokenizer(config)(["left " * 300])
        assert ids[0, -1] == 49407

    def test_no_sentence_gives_no_row(self):
        ids, mask = build_tokenizer(TokenizerConfig())([])
        assert ids.shape == mask.shape == (0, 20)

    def test_a_context_without_room_for_a_word_is_refused(self):
        with pytest.raises(InputError, match="no room"):
            build_tokenizer(TokenizerConfig(context_length=2))


class TestWords:
    def test_special_tokens_have_their_places(self, words):
        assert (words.padding_id, words.start_id) == (0, 2)
        assert words.end_id == words.vocabulary_size - 1

    def test_a_known_word_is_one_token(self, words):
        assert len(words.encode("purple triangle")) == 4

    def test_says_whether_a_sentence_is_read_to_its_end(self, words):
        longest = "red " * (words.config.context_length - 2)
        assert words.reads_whole(longest)
        assert not words.reads_whole(f"{longest} circle")

    def test_case_does_not_count(self, words):
        assert words.encode("Purple TRIANGLE") == words.encode("purple triangle")

    def test_the_end_token_is_where_clip_pools(self, words):
        ids, mask = words(["circle", "circle on the left of everything that is here"])
        assert torch.equal(ids.argmax(dim=1), mask.sum(dim=1) - 1)

    @given(st.text(max_size=40))
    def test_any_text_has_tokens(self, words, text):
        ids, mask = words([text])
        assert ids.max() < words.vocabulary_size
        assert ids[0, mask.sum() - 1] == words.end_id

    def test_words_never_seen_are_spelled(self, words):
        assert words.encode("zebra")[1:-1] != words.encode("zebro")[1:-1]
        assert 1 not in words.encode("zebra")

    def test_the_name_of_a_special_token_is_plain_text(self, words):
        assert words.encode("[END] left").count(words.end_id) == 1

    def test_training_twice_gives_the_same_bytes(self, trained):
        assert train_word_tokenizer(SENTENCES[::-1], vocabulary_size=200) == trained

    def test_rare_words_go_first_when_room_is_short(self):
        content = train_word_tokenizer(["the the circle"], vocabulary_size=77)
        tokenizer = build_tokenizer(
            TokenizerConfig(kind="file"), assets={"tokenizer.json": content}
        )
        assert len(tokenizer.encode("the")) == 3
        assert len(tokenizer.encode("circle")) == 8
        assert tokenizer.vocabulary_size == 77

    def test_a_vocabulary_without_room_is_refused(self):
        with pytest.raises(InputError, match="no room for words"):
            train_word_tokenizer(SENTENCES, vocabulary_size=50)

    def test_the_file_may_lie_anywhere(self, trained, words, tmp_path):
        (tmp_path / "mine.json").write_bytes(trained)
        config = TokenizerConfig(kind="file", path=str(tmp_path / "mine.json"))
        assert build_tokenizer(config).encode("left") == words.encode("left")

    @pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
    def test_a_file_that_is_no_tokenizer_is_refused(self, content):
        with pytest.raises(InputError, match="of the `tokenizers` library"):
            build_tokenizer(TokenizerConfig(kind="file"), assets={"tokenizer.json": content})

    def test_a_missing_file_is_named(self):
        with pytest.raises(InputError, match=r"no tokenizer tokenizer\.json"):
            build_tokenizer(TokenizerConfig(kind="file"))

    def test_real_sentences_have_words_left(self, shared_data):
        lines = (shared_data / "expressions" / "refcoco_unc_val.tsv").read_text().splitlines()
        sentences = [line.split("\t")[-1] for line in lines[1:2001]]
        content = train_word_tokenizer(sentences, vocabulary_size=4000)
        tokenizer = build_tokenizer(
            TokenizerConfig(kind="file"), assets={"tokenizer.json": content}
        )
        ids, mask = tokenizer(sentences)
        assert (ids[mask] == 1).float().mean() < 0.001


class TestBert:
    @pytest.fixture
    def bert(self, tmp_path):
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "##most", "dog"]
        (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
        config = TokenizerConfig(kind="bert", path=str(tmp_path), context_length=5)
        return build_tokenizer(config)

    def test_pieces_stand_between_start_and_end(self, bert):
        ids, mask = bert(["Leftmost dog", "zebra"])
        assert ids.tolist() == [[2, 5, 6, 7, 3], [2, 1, 3, 0, 0]]
        assert mask.sum(dim=1).tolist() == [5, 3]

    def test_a_model_directory_that_carries_it_needs_no_other_file(self, bert):
        elsewhere = dataclasses.replace(bert.config, path="not/here")
        carried = build_tokenizer(elsewhere, assets=dict(bert.assets))
        sentences = ["Leftmost dog", "zebra", "", "dog dog dog dog"]
        for one, other in zip(bert(sentences), carried(sentences), strict=True):
            assert torch.equal(one, other)
        assert carried.vocabulary_size == bert.vocabulary_size
        assert carried.assets == bert.assets

    def test_a_missing_tokenizer_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no BERT tokenizer"):
            build_tokenizer(TokenizerConfig(kind="bert", path=str(tmp_path / "none")))


class TestTextId:
    def test_is_the_same_forever(self):
        assert text_id("the dog") == 1700705650468353760

    def test_case_blanks_and_punctuation_do_not_count(self):
        assert text_id("The  dog!") == text_id("the dog") == text_id("the, dog ")

    def test_other_words_have_another_id(self):
        assert text_id("circle on the left") != text_id("circle on the right")

    @given(st.text())
    def test_fits_a_signed_64_bit_integer(self, text):
        assert 0 <= text_id(text) < 2**63

    @given(st.text())
    def test_normalizing_twice_changes_nothing(self, text):
        assert normalize(normalize(text)) == normalize(text)
