from dataclasses import replace
from pathlib import Path

import pytest

from tris.data.index import IndexWriter, Referent, open_index
from tris.data.negatives import NegativeSampler, NegativesConfig
from tris.errors import InputError


def referent(number: int, image_id: int, *sentences: str, annotation: int = 0) -> Referent:
    return Referent(
        referent_id=number,
        image_id=image_id,
        file_name=f"{image_id}.jpg",
        height=4,
        width=4,
        expression_ids=tuple(100 * number + i for i in range(len(sentences))),
        sentences=sentences,
        raw_sentences=tuple(sentence.upper() for sentence in sentences),
        annotation_ids=(annotation or number,),
    )


@pytest.fixture
def make_index(tmp_path):
    def make(*referents: Referent):
        (tmp_path / "images").mkdir()
        with IndexWriter(
            tmp_path / "index", dataset="toy", split_by="", images=tmp_path / "images", sources=[]
        ) as writer:
            for one in referents:
                writer.add("train", one)
        return open_index(Path(tmp_path / "index"), "train")

    return make


TWO_DOGS = (
    referent(1, 1, "left dog", "brown dog"),
    referent(2, 1, "right dog", "white dog"),
    referent(3, 1, "the cat"),
    referent(4, 2, "a tree"),
    referent(5, 3, "a house", "red house"),
)


def draw_many(index, row=0, **settings):
    sampler = NegativeSampler(index, NegativesConfig(**settings), seed=0)
    return [sampler.sentences(row, 0, epoch=epoch) for epoch in range(60)]


def test_negatives_are_about_other_referents_of_the_image(make_index):
    drawn = draw_many(make_index(*TWO_DOGS), count=3)
    assert {s for sentences in drawn for s in sentences} == {"right dog", "white dog", "the cat"}
    assert all(len(sentences) == 3 for sentences in drawn)


def test_with_replacement_a_sentence_may_come_twice(make_index):
    assert any(len({*sentences}) < 3 for sentences in draw_many(make_index(*TWO_DOGS), count=3))


def test_without_replacement_none_comes_twice_and_others_fill_up(make_index):
    drawn = draw_many(make_index(*TWO_DOGS), count=5, with_replacement=False)
    for sentences in drawn:
        assert len({*sentences}) == 5
        assert {*sentences} > {"right dog", "white dog", "the cat"}
    assert {s for sentences in drawn for s in sentences} >= {"a tree", "a house", "red house"}


def test_an_image_with_one_referent_takes_from_other_images(make_index):
    drawn = draw_many(make_index(*TWO_DOGS), row=3, count=2)
    assert all("a tree" not in sentences for sentences in drawn)
    assert {s for sentences in drawn for s in sentences} > {"left dog", "a house"}


def test_the_source_can_be_other_images(make_index):
    drawn = draw_many(make_index(*TWO_DOGS), count=2, source="other_images")
    assert {s for sentences in drawn for s in sentences} == {"a tree", "a house", "red house"}


def test_equal_words_and_the_same_object_are_no_negatives(make_index):
    index = make_index(
        referent(1, 1, "left dog"),
        referent(2, 1, "Left dog!", "the dog"),
        referent(3, 1, "brown animal", annotation=1),
    )
    assert draw_many(index, count=2) == [["the dog", "the dog"]] * 60


def test_the_released_rule_lets_them_in(make_index):
    index = make_index(
        referent(1, 1, "left dog"),
        referent(2, 1, "left dog"),
        referent(3, 1, "brown animal", annotation=1),
    )
    drawn = draw_many(index, count=2, allow_same_object=True)
    assert {s for sentences in drawn for s in sentences} == {"left dog", "brown animal"}


def test_draws_depend_on_seed_epoch_and_expression_alone(make_index):
    index = make_index(*TWO_DOGS)
    config = NegativesConfig(count=3)
    one, same, other = (NegativeSampler(index, config, seed=seed) for seed in (1, 1, 2))
    late = [one.sentences(0, 0, epoch=epoch) for epoch in range(20)]
    assert [same.sentences(0, 0, epoch=epoch) for epoch in range(20)][::-1] == late[::-1]
    assert [other.sentences(0, 0, epoch=epoch) for epoch in range(20)] != late
    assert [one.sentences(0, 1, epoch=epoch) for epoch in range(20)] != late
    assert len({tuple(sentences) for sentences in late}) > 5


def test_raw_text_is_taken_where_asked(make_index):
    sampler = NegativeSampler(make_index(*TWO_DOGS), NegativesConfig(count=3), seed=0, text="raw")
    assert all(sentence.isupper() for sentence in sampler.sentences(0, 0, epoch=0))


def test_a_data_set_without_any_negative_says_so(make_index):
    index = make_index(replace(TWO_DOGS[0], image_id=1))
    with pytest.raises(InputError, match="no negative sentence for referent 1"):
        draw_many(index, count=1)
