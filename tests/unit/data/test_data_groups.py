import dataclasses
from collections import Counter

import numpy as np
import pytest

from benchmarks.group_negatives import measure_false_negatives
from tris.data.absence import TextEvidence
from tris.data.group_sources import (
    GroupingConfig,
    IndexedGroups,
    RecurringSentences,
    find_near_sentences,
    list_sentences,
)
from tris.data.groups import GroupConfig, GroupPlan, cut_evenly, group_evaluation_batches
from tris.data.index import IndexWriter, open_index
from tris.data.loader import build_loader
from tris.data.plan import Item
from tris.data.referent import Referent
from tris.data.samples import ExpressionDataset
from tris.errors import InputError


class Source:
    """Sentences 0, 1, 2, ... that 9, 4, 2, 1, 1, 1, ... photographs share."""

    def __init__(self, num_positives=(9, 4, 2, 1, 1, 1, 3, 7, 1, 1, 8, 5), *, with_absent=False):
        self.num_positives = num_positives
        self.absent = [Item(5000), Item(5001)] if with_absent else []

    def positive(self, sentence, number):
        return Item(100 * sentence + number)

    def negatives(self, sentence, count, rng):
        return [Item(-100 * sentence - int(n) - 1) for n in rng.permutation(50)[:count]]


def make_plan(size=8, batch=16, *, seed=3, rank=0, count=1):
    return GroupPlan(
        Source(), GroupConfig(group_size=size, batch_size=batch), seed=seed,
        process_index=rank, num_processes=count,
    )  # fmt: skip


def split(batch):
    return [i for i in batch if i.expression >= 0], [i for i in batch if i.expression < 0]


@pytest.mark.parametrize("size", [2, 8])
def test_every_group_is_half_positive_and_about_one_sentence(size):
    for batch in make_plan(size):
        assert len(batch) == 16
        groups = {item.group for item in batch}
        for group in groups:
            members = [item for item in batch if item.group == group]
            positives, negatives = split(members)
            assert len(positives) == len(negatives) > 0
            assert len({item.expression // 100 for item in positives}) == 1
            assert len(set(positives)) == len(positives)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_odd_groups_are_half_positive_over_all(size):
    plan = make_plan(size, 2 * size)
    positives = negatives = 0
    for epoch in range(20):
        for step in range(plan.num_steps):
            batch = plan.items(epoch, step)
            assert len(batch) == 2 * size
            members = Counter(item.group for item in batch)
            assert max(members.values()) <= size
            positives += len(split(batch)[0])
            negatives += len(split(batch)[1])
    assert positives / (positives + negatives) == pytest.approx(0.5, abs=0.02)


def test_an_epoch_shows_no_pair_twice_and_nearly_all_of_them():
    seen = [item.expression for batch in make_plan(8, 8) for item in split(batch)[0]]
    assert len(set(seen)) == len(seen) == 4 * make_plan(8, 8).num_steps
    assert len(seen) > sum(Source().num_positives) - 4


def test_a_frequent_sentence_fills_whole_groups():
    plan = make_plan(8, 8)
    sizes = Counter(
        len([item for item in batch if item.group == group])
        for batch in plan
        for group in {item.group for item in batch}
    )
    assert sizes[8] == sum(count // 4 for count in Source().num_positives)


def test_the_parts_of_two_processes_are_the_batch_of_one_and_groups_stay_whole():
    alone = make_plan(4, 16)
    parts = [make_plan(4, 16, rank=rank, count=2) for rank in (0, 1)]
    assert alone.num_steps == parts[0].num_steps
    for epoch, step in [(0, 0), (0, 1), (3, 0)]:
        own = [part.items(epoch, step) for part in parts]
        assert own[0] + own[1] == alone.items(epoch, step)
        assert len(own[0]) == len(own[1])
        assert not {i.group for i in own[0]} & {i.group for i in own[1]}


def test_a_plan_goes_on_in_the_middle_of_an_epoch():
    whole = list(make_plan(4, 8))
    plan = make_plan(4, 8)
    plan.start_at(0, 3)
    assert len(plan) == len(whole) - 3
    assert list(plan) == whole[3:]


def test_epochs_and_seeds_differ_but_not_in_length():
    first, second = (make_plan(4, 8, seed=seed) for seed in (3, 4))
    batches = [first.items(0, 0), first.items(1, 0), second.items(0, 0)]
    assert len({tuple(batch) for batch in batches}) == 3
    assert all(len(first.items(epoch, first.num_steps - 1)) == 8 for epoch in range(6))


@pytest.mark.parametrize(("size", "batch", "count"), [(8, 12, 1), (8, 8, 2), (0, 8, 1), (4, 0, 1)])
def test_uneven_batches_are_refused(size, batch, count):
    with pytest.raises(InputError, match="choose a multiple"):
        make_plan(size, batch, count=count)


def test_too_large_a_batch_is_refused():
    with pytest.raises(InputError, match="use a smaller batch"):
        make_plan(8, 800)


@pytest.fixture(scope="module")
def recurring(blind_index):
    return RecurringSentences(blind_index)


@pytest.fixture(scope="module")
def sentences(blind_index):
    return [words for words, _ in list_sentences(blind_index)]


def test_positives_have_the_sentence_and_all_that_it_names(blind_index, recurring, sentences):
    assert max(recurring.num_positives) >= 2
    for sentence, count in enumerate(recurring.num_positives):
        images = set()
        for number in range(count):
            item = recurring.positive(sentence, number)
            referents = [blind_index[row] for row in item.target_rows]
            assert all(sentences[sentence] in each.sentences for each in referents)
            assert len({each.image_id for each in referents}) == 1
            images.add(referents[0].image_id)
            rows = [
                row
                for row, each in enumerate(blind_index)
                if each.image_id == referents[0].image_id and sentences[sentence] in each.sentences
            ]
            assert tuple(rows) == item.target_rows
        assert len(images) == count


def test_negatives_are_other_photographs_that_nothing_makes_true(blind_index, recurring, sentences):
    evidence, rng = TextEvidence(blind_index), np.random.default_rng(0)
    for sentence in range(len(recurring.num_positives)):
        items = recurring.negatives(sentence, 3, rng)
        rows = [item.image_row for item in items]
        assert len({blind_index[row].image_id for row in rows}) == len(rows)
        assert all(item.target_rows == () for item in items)
        assert not any(evidence.may_be_true(sentences[sentence], row) for row in rows)


def test_photographs_that_look_true_are_no_negatives(blind_index):
    nothing = RecurringSentences(blind_index, looks_true=lambda expression, row: True)
    assert nothing.negatives(0, 3, np.random.default_rng(0)) == []


def test_near_sentences_are_grouped_and_read_as_the_first(blind_index):
    sentences = [sentence for sentence, _ in list_sentences(blind_index)]
    features = np.eye(len(sentences), dtype=np.float32)
    first, other = find_pair_that_agrees(sentences)
    features[other] = features[first]
    near = find_near_sentences(sentences, features, least_similarity=0.9)
    assert near[first] == (other,)
    assert sum(map(len, near)) == 2
    alone, grouped = (RecurringSentences(blind_index, near=each) for each in (None, near))
    assert grouped.num_positives[first] >= alone.num_positives[first]
    positives = [grouped.positive(first, number) for number in range(grouped.num_positives[first])]
    expected = {
        row
        for row, each in enumerate(blind_index)
        if {sentences[first], sentences[other]} & set(each.sentences)
    }
    assert {row for item in positives for row in item.target_rows} == expected
    assert all(
        blind_index[row].sentences[position] == sentences[first]
        for row, position in (blind_index.expression_row(item.expression) for item in positives)
    )


def find_pair_that_agrees(sentences):
    features = np.ones((len(sentences), 1), np.float32)
    near = find_near_sentences(sentences, features, least_similarity=0.9)
    return next((one, others[0]) for one, others in enumerate(near) if others)


@pytest.mark.parametrize(
    ("first", "second", "is_near"),
    [
        ("left man", "guy left", True),
        ("man in blue shirt", "guy with blue shirt", False),
        ("blue shirt man", "man blue shirt", True),
        ("left man", "right man", False),
        ("circle left of the square", "circle right of the square", False),
        ("circle left of the square", "square left of the circle", False),
        ("man behind dog", "man in front of dog", False),
        ("man next to dog", "dog next to man", False),
        ("leftmost man", "rightmost man", False),
        ("largest star", "smallest star", False),
        ("second man from left", "third man from left", False),
        ("two men", "three men", False),
        ("top left man closest", "bottom right man closest", False),
        ("man on the left", "man left of the dog", False),
        ("red circle", "blue circle", False),
    ],
)
def test_sentences_that_words_tell_apart_are_not_near(first, second, is_near):
    features = np.ones((2, 1), np.float32)
    near = find_near_sentences([first, second], features, least_similarity=0.9)
    assert near == ([(1,), (0,)] if is_near else [(), ()])


def test_sentences_are_listed_once_with_their_first_expression(blind_index):
    listed = list_sentences(blind_index)
    assert len({sentence for sentence, _ in listed}) == len(listed)
    for sentence, expression in listed[:20]:
        row, position = blind_index.expression_row(expression)
        assert blind_index[row].sentences[position] == sentence


@pytest.mark.parametrize(
    "settings",
    [
        {"least_similarity": 0.5},
        {"least_similarity": 1.1},
        {"clip_missed_share": -1.0},
        {"alone_share": 2.0},
        {"absent_share": -0.5},
    ],
)
def test_odd_settings_of_grouping_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        GroupingConfig(**settings)


def test_a_split_without_a_sentence_that_has_a_target_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    with IndexWriter(tmp_path / "index", dataset="toy", images=tmp_path / "images") as writer:
        writer.add("train", Referent(
            1, 1, "a.png", 4, 4, (1,), ("words",), ("words",), is_no_target=True
        ))  # fmt: skip
    with pytest.raises(InputError, match="has a target"):
        RecurringSentences(open_index(tmp_path / "index", "train"))


def test_samples_of_a_group_have_its_sentence_and_empty_targets_where_negative(
    train_index, spec, words
):
    spec = dataclasses.replace(spec, group_size=4)
    dataset = ExpressionDataset(train_index, spec, words, targets="truth")
    plan = GroupPlan(
        RecurringSentences(train_index), GroupConfig(group_size=4, batch_size=8), seed=0
    )
    batch = next(iter(build_loader(dataset, plan)))
    assert len(batch.images) == 8
    for group in set(batch.group_index.tolist()):
        members = batch.group_index == group
        assert len(set(batch.text_id[members].tolist())) == 1
    assert batch.is_no_target.sum() == 4
    assert not batch.targets[batch.is_no_target].any()
    assert all(target.any() for target in batch.targets[~batch.is_no_target])


def test_false_negatives_are_counted_among_drawn_negatives(recurring):
    assert measure_false_negatives(recurring, lambda item: True, num_sentences=3) == 1
    rates = [
        measure_false_negatives(recurring, lambda item: item.image_row % 2 == 0, num_sentences=20)
        for _ in range(2)
    ]
    assert rates[0] == rates[1]
    assert 0 < rates[0] < 1


def referent(number, *, group="", is_no_target=False, sentence="dog", image=None):
    return Referent(
        referent_id=number,
        image_id=number if image is None else image,
        file_name=f"{number}.jpg",
        height=4,
        width=4,
        expression_ids=(number,),
        sentences=(sentence,),
        raw_sentences=(sentence,),
        is_no_target=is_no_target,
        group=group,
    )


@pytest.fixture
def grouped_index(tmp_path):
    """Two groups (2 positives + 3 negatives, 1 + 1), one of absent things alone, and one alone."""
    rows = [
        *(referent(n, group="a", is_no_target=n > 2) for n in (1, 2, 3, 4, 5)),
        *(referent(n, group="b", sentence="cat", is_no_target=n == 7, image=n - 5) for n in (6, 7)),
        referent(8, group="c", sentence="cow", is_no_target=True),
        referent(9, sentence="hen"),
    ]
    with IndexWriter(tmp_path / "index", dataset="grd", images=tmp_path) as writer:
        for row in rows:
            writer.add("train", row)
    return open_index(tmp_path / "index", "train")


def test_groups_that_an_index_names_are_taken(grouped_index):
    source = IndexedGroups(grouped_index)
    assert source.num_positives == [2, 1]
    rng = np.random.default_rng(0)
    assert {source.positive(0, number).expression for number in (0, 1)} == {0, 1}
    assert {item.expression for item in source.negatives(0, 3, rng)} == {2, 3, 4}
    assert [item.expression for item in source.negatives(1, 2, rng)] == [6, 6]
    assert source.num_left_out == 2


def test_every_sentence_of_a_row_that_names_a_group_makes_one(tmp_path):
    both = [referent(n, group="a", is_no_target=n == 3) for n in (1, 2, 3)]
    with IndexWriter(tmp_path / "index", dataset="grd", images=tmp_path) as writer:
        for each in both:
            twice = ("dog", "black dog")
            ids = (2 * each.referent_id, 2 * each.referent_id + 1)
            writer.add(
                "train",
                dataclasses.replace(each, sentences=twice, raw_sentences=twice, expression_ids=ids),
            )
    source = IndexedGroups(open_index(tmp_path / "index", "train"))
    assert source.num_positives == [2, 2]
    assert [source.positive(1, number).expression for number in (0, 1)] == [1, 3]
    assert [item.expression for item in source.negatives(1, 1, np.random.default_rng(0))] == [5]


def test_an_index_without_groups_is_refused_as_one_with(train_index):
    with pytest.raises(InputError, match="names no image group"):
        IndexedGroups(train_index)


def test_evaluation_takes_whole_groups_and_every_expression_once(grouped_index):
    batches = group_evaluation_batches(grouped_index, pairs_per_batch=6)
    flat = [item for batch in batches for item in batch]
    assert sorted(item.expression for item in flat) == list(range(9))
    for batch in batches:
        assert len(batch) <= 6
        members = {}
        for item in batch:
            members.setdefault(item.group, set()).add(item.expression)
        named = {group: rows for group, rows in members.items() if group}
        assert all(rows in ({0, 1, 2, 3, 4}, {5, 6}, {7}) for rows in named.values())
    assert [item.group for item in flat if item.expression == 8] == [0]


def test_groups_are_cut_into_even_parts_where_they_may_not_be_as_large(grouped_index):
    batches = group_evaluation_batches(grouped_index, pairs_per_batch=1, largest_group=4)
    sizes = [len(batch) for batch in batches]
    assert sorted(sizes) == [1, 1, 2, 2, 3]
    assert sorted(item.expression for batch in batches for item in batch) == list(range(9))
    assert [len(part) for part in cut_evenly(range(16), most=3)] == [2, 3, 3, 2, 3, 3]
    assert cut_evenly(range(16), most=0) == [range(16)]


def test_a_group_larger_than_the_batch_stays_whole(grouped_index):
    batches = group_evaluation_batches(grouped_index, pairs_per_batch=1)
    assert max(len(batch) for batch in batches) == 5


def test_without_groups_in_the_index_every_expression_stands_alone(train_index):
    batches = group_evaluation_batches(train_index, pairs_per_batch=16)
    assert {item.group for batch in batches for item in batch} == {0}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_sentences_about_nothing_stand_beside_their_share_of_lone_positives(share):
    config = GroupConfig(8, 8, GroupingConfig(absent_share=share))
    plan = GroupPlan(Source((1,) * 40, with_absent=True), config, seed=0)
    items = [item for epoch in range(5) for step in range(10) for item in plan.items(epoch, step)]
    absent = [item for item in items if item.expression >= 5000]
    assert all((item.target_rows, item.group) == ((), 0) for item in absent)
    assert len(absent) / 200 == pytest.approx(share, abs=0.15)
    assert len([item for item in items if 0 <= item.expression < 5000]) == len(items) / 2


def test_lone_positives_are_composed_and_stay_in_balance(train_index):
    for composer, is_kept in ((join, False), (deny, True)):
        plan = GroupPlan(Source((1, 1, 2)), GroupConfig(4, 8), seed=0, composer=composer)
        items = plan.items(0, 0)
        composed = [item for item in items if item.sentence]
        assert len(composed) == 2
        assert all(item.group == 0 for item in composed)
        positives = [item for item in items if item.target_rows is None and item.expression >= 0]
        assert len(positives) == (4 if is_kept else 2)
        assert len(items) == 8


def join(item):
    return item._replace(sentence="both", target_rows=(0, 1))


def deny(item):
    return item._replace(sentence="neither", target_rows=())


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("composer", [None, join, deny])
def test_units_whose_pairs_stand_alone_are_half_positive_and_composed(size, composer):
    config = GroupConfig(size, 2 * size, GroupingConfig(alone_share=1.0))
    plan = GroupPlan(Source(), config, seed=0, composer=composer)
    items = [item for step in range(plan.num_steps) for item in plan.items(0, step)]
    assert {item.group for item in items} == {0}
    has_target = [
        bool(item.target_rows) if item.sentence else item.expression >= 0 for item in items
    ]
    assert sum(has_target) == pytest.approx(len(items) / 2, abs=plan.num_steps)
    composed = sum(item.sentence is not None for item in items)
    assert composed == pytest.approx(len(items) / 2 if composer else 0, abs=plan.num_steps)


def test_a_share_of_the_units_stands_alone_whatever_the_number_of_processes():
    config = GroupConfig(4, 8, GroupingConfig(alone_share=0.5))
    source = Source((8,) * 60)
    plan = GroupPlan(source, config, seed=0)
    batches = [plan.items(0, step) for step in range(plan.num_steps)]
    alone = [item.group == 0 for batch in batches for item in batch]
    assert np.mean(alone) == pytest.approx(0.5, abs=0.12)
    halves = [
        GroupPlan(source, config, seed=0, process_index=rank, num_processes=2) for rank in (0, 1)
    ]
    for step, batch in enumerate(batches):
        assert [item for half in halves for item in half.items(0, step)] == batch


def test_a_lone_positive_without_a_counterpart_gets_one_that_means_nothing():
    class Poor(Source):
        def negatives(self, sentence, count, rng):
            return []

    items = GroupPlan(Poor((1,) * 8), GroupConfig(4, 4), seed=0, composer=deny).items(0, 0)
    assert [item.sentence for item in items] == [None, "neither"] * 2


def test_without_a_share_only_lone_positives_are_composed():
    plan = GroupPlan(Source((4,) * 9), GroupConfig(8, 8), seed=0, composer=join)
    items = [item for step in range(plan.num_steps) for item in plan.items(0, step)]
    assert not any(item.sentence for item in items)
    assert all(item.group for item in items)


def test_rows_without_a_target_are_known_negatives(tmp_path):
    with IndexWriter(tmp_path / "index", dataset="grefcoco", images=tmp_path) as writer:
        writer.add("train", referent(1))
        writer.add("train", referent(2, sentence="cat", is_no_target=True))
    source = RecurringSentences(open_index(tmp_path / "index", "train"))
    assert source.num_positives == [1]
    assert source.absent == [Item(1)]
