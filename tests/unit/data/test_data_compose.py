import collections

import numpy as np
import pytest
import torch

from tris.batch import IGNORE_INDEX
from tris.data.absence import ClipEvidence, ClipFeatures, TextEvidence
from tris.data.compose import (
    ComposedPlan,
    Composer,
    CompositionConfig,
    LabelOverlaps,
    kind_of,
)
from tris.data.index import open_index
from tris.data.joining import added_words, join_expressions, shared_core
from tris.data.loader import build_loader
from tris.data.mirror import mirror_sentence
from tris.data.plan import BatchPlan, Item, PlanConfig
from tris.data.prepare.assemble import assemble
from tris.data.prepare.grefcoco import read_grefcoco
from tris.data.samples import ExpressionDataset
from tris.data.swapping import list_swaps
from tris.data.synthetic import SyntheticConfig
from tris.data.synthetic_truth import find_true, list_scenes
from tris.data.tokens import text_id
from tris.data.words import PLAIN_NOUNS, plural, read_claims, singular
from tris.errors import InputError

PLAN = PlanConfig(batch_size=8)
SPLIT = SyntheticConfig(num_train_images=30, num_val_images=8, num_test_images=8)


class Labels:
    """Label store that gives every referent the same mask, or none."""

    def __init__(self, mask):
        self.mask = mask

    def get(self, dataset, referent_id):
        return self.mask


def compose(index, config=None, *, clip=None, targets="truth", seed=0):
    overlaps = LabelOverlaps(index, targets)
    return Composer(index, config or CompositionConfig(), seed=seed, overlaps=overlaps, clip=clip)


def only(kind, **settings):
    shares = dict.fromkeys(("single_share", "multi_share", "none_share"), 0.0)
    return CompositionConfig(**(shares | {f"{kind}_share": 1.0}), **settings)


@pytest.fixture(scope="module")
def generalized_index(shared_data, tmp_path_factory):
    """gRefCOCO's training split of some photographs, masks kept."""
    source, out = shared_data / "refcoco_mini", tmp_path_factory.mktemp("grefcoco") / "index"
    assemble(read_grefcoco(source=source), images=source / "images" / "train2014", out=out)
    return open_index(out, "train")


def all_items(index, composer, *, epoch=0, plan=PLAN):
    composed = ComposedPlan(index, plan, composer, seed=0)
    return [item for step in range(composed.num_steps) for item in composed.items(epoch, step)]


class TestJoining:
    def join(self, *sentences, others=(), seed=0, brief_share=1.0):
        rng = np.random.default_rng(seed)
        return join_expressions(sentences, others=others, brief_share=brief_share, rng=rng)

    def test_expressions_that_differ_in_place_alone_share_their_noun(self):
        said = {
            self.join("red circle on the left", "rightmost red circle", seed=seed)
            for seed in range(20)
        }
        assert said == {"the two red circles", "two red circles", "both red circles"}

    def test_three_are_counted(self):
        said = self.join("left man", "man in the middle", "man on far right")
        assert said in ("the three men", "all three men")

    def test_no_number_is_said_where_there_may_be_another_one(self):
        assert "two" not in self.join("left man", "right man", others=["guy in back"])

    @pytest.mark.parametrize(
        "pair",
        [
            ("man on left", "man in blue"),
            ("left man", "right woman"),
            ("bowl of carrots", "bowl of rice"),
            ("lady sitting left", "lady sitting right"),
            ("left one", "right one"),
        ],
    )
    def test_expressions_that_differ_in_more_than_place_share_nothing(self, pair):
        assert shared_core(pair) == ""

    def test_a_sentence_that_ends_in_a_place_comes_last(self):
        said = self.join("circle left of the square", "star", seed=1)
        assert said.endswith("circle left of the square")

    def test_articles_are_given_to_all_or_none(self):
        said = self.join("the dog", "cat")
        assert said.removeprefix("both ") == "the dog and the cat"

    def test_three_are_enumerated_with_a_comma(self):
        assert self.join("dog", "cat", "bird").replace("the ", "") == "dog, cat and bird"

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize(
        ("counted", "wanted"),
        [
            ("the two circles", {"the two circles and the star"}),
            ("both circles", {"both circles and the star", "both circles and star"}),
            ("all three circles", {"all three circles and the star", "all three circles and star"}),
        ],
    )
    def test_a_counted_kind_stands_as_it_is_said(self, counted, wanted, seed):
        assert self.join(counted, "star", seed=seed) in wanted

    def test_an_and_inside_is_kept_apart_by_a_comma(self):
        assert ", and " in self.join("man and his dog", "tree")


class TestNouns:
    def test_the_plural_of_every_plain_noun_is_undone(self):
        assert [noun for noun in PLAIN_NOUNS if singular(plural(noun)) != noun] == []

    @pytest.mark.parametrize(
        ("noun", "many"),
        [
            ("ski", "skis"),
            ("cookie", "cookies"),
            ("leaf", "leaves"),
            ("glove", "gloves"),
            ("tomato", "tomatoes"),
            ("shoe", "shoes"),
            ("shelf", "shelves"),
            ("calf", "calves"),
            ("veggie", "veggies"),
            ("lady", "ladies"),
        ],
    )
    def test_one_and_many_belong_together(self, noun, many):
        assert (plural(noun), singular(many), singular(noun)) == (many, noun, noun)


class TestClaims:
    @pytest.mark.parametrize(
        ("claim", "known", "may_hold"),
        [
            ("guy", "man on left", True),
            ("man", "lady", False),
            ("person in red", "woman", True),
            ("red circle", "circle", True),
            ("red circle", "blue circle", False),
            ("red circle", "red square", False),
            ("circle on the right", "circle on the left", False),
            ("rightmost circle", "circle on the left", True),
            ("leftmost thing", "blue square", True),
            ("dog", "cat", False),
            ("dogs", "dog", True),
            ("buses", "bus", True),
            ("two tvs", "television", True),
            ("taxis", "car", True),
            ("dog", "left one", True),
            ("red circle", "leftmost thing", True),
            ("green dog", "the red one", False),
            ("couch on left", "sofa on left", True),
            ("taxi", "yellow car", True),
            ("white cat", "white animal", True),
            ("white cat", "black animal", False),
        ],
    )
    def test_what_may_hold(self, claim, known, may_hold):
        assert read_claims(claim).subject.may_hold_for(read_claims(known).subject) is may_hold

    def test_the_landmark_is_no_part_of_the_subject(self):
        reading = read_claims("circle right of the red square")
        assert reading.subject.nouns == {"circle"}
        assert reading.subject.attributes == {("shape", "circle")}
        assert reading.landmark.attributes == {("shape", "square"), ("color", "red")}

    def test_the_left_of_the_picture_is_a_place(self):
        reading = read_claims("man to the left of the picture")
        assert reading.landmark is None
        assert ("horizontal", "left") in reading.subject.attributes


class TestSwaps:
    def test_one_attribute_is_replaced_by_words_of_the_data(self):
        swaps = list_swaps("red circle on the left", vocabulary={"green", "right", "star"})
        assert [swap.sentence for swap in swaps] == [
            "green circle on the left",
            "red star on the left",
            "red circle on the right",
        ]

    def test_all_else_is_spelled_as_it_was(self):
        swaps = list_swaps("Man's dog,  on the LEFT.", vocabulary={"right", "woman"})
        assert [each.sentence for each in swaps] == [
            "Woman's dog,  on the LEFT.",
            "Man's dog,  on the Right.",
        ]

    def test_superlatives_stay(self):
        assert list_swaps("leftmost thing", vocabulary={"rightmost"}) == []

    def test_a_direction_from_a_landmark_is_recognised(self):
        swaps = list_swaps("dog left of the cat", vocabulary={"right"})
        assert [swap.turns_relation for swap in swaps] == [True]


class TestKinds:
    def test_shares_are_kept(self, train_index):
        composer = compose(train_index)
        items = [
            each for epoch in range(6) for each in all_items(train_index, composer, epoch=epoch)
        ]
        kinds = collections.Counter(kind_of(item) for item in items)
        assert kinds["single"] / len(items) == pytest.approx(0.60, abs=0.08)
        assert kinds["multi"] / len(items) == pytest.approx(0.29, abs=0.08)
        assert kinds["none"] / len(items) == pytest.approx(0.11, abs=0.05)

    def test_epochs_differ_and_the_same_epoch_does_not(self, train_index):
        composer = compose(train_index)
        first, again = (all_items(train_index, composer) for _ in range(2))
        assert first == again
        assert first != all_items(train_index, composer, epoch=1)

    @pytest.mark.parametrize("num_processes", [2, 4])
    def test_processes_together_have_the_items_of_one(self, train_index, num_processes):
        whole = ComposedPlan(train_index, PLAN, compose(train_index), seed=0)
        parts = [
            ComposedPlan(
                train_index, PLAN, compose(train_index), seed=0,
                process_index=number, num_processes=num_processes,
            )
            for number in range(num_processes)
        ]  # fmt: skip
        for step in range(whole.num_steps):
            together = [item for part in parts for item in part.items(2, step)]
            assert together == whole.items(2, step)

    def test_nothing_is_composed_with_a_share_of_one_single(self, train_index):
        items = all_items(train_index, compose(train_index, only("single")))
        plan = BatchPlan(train_index, PLAN, seed=0)
        assert items == [each for step in range(plan.num_steps) for each in plan.items(0, step)]

    def test_images_with_all_sentences_can_be_composed(self, train_index):
        plan = PlanConfig(sampling="images", batch_size=4)
        items = all_items(train_index, compose(train_index), plan=plan)
        assert {kind_of(item) for item in items} == {"single", "multi", "none"}

    @pytest.mark.parametrize(
        "settings",
        [
            {"single_share": 0.5},
            {"swapped_share": 1.5},
            {"clip_missed_share": -0.1},
            {"attempts": -1},
            {"max_words": -3},
        ],
    )
    def test_odd_settings_are_refused(self, settings):
        with pytest.raises(InputError):
            CompositionConfig(**settings)


class TestSeveral:
    def test_the_target_is_the_union_of_the_labels(self, train_index, spec, words):
        item = next(
            each
            for each in all_items(train_index, compose(train_index, only("multi")))
            if kind_of(each) == "multi"
        )
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        sample = dataset[item]
        alone = [
            dataset[item._replace(sentence=None, target_rows=(row,))].target
            for row in item.target_rows
        ]
        assert torch.equal(sample.target, torch.stack(alone).amax(dim=0))
        assert len(item.target_rows) in (2, 3)
        assert not sample.is_no_target
        assert sample.text_id == text_id(item.sentence)

    def test_what_comes_mirrored_says_so(self, train_index, spec, words):
        item = next(
            each
            for each in all_items(train_index, compose(train_index, only("multi")))
            if kind_of(each) == "multi" and "left" in each.sentence
        )
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        mirrored = dataset[item._replace(is_flipped=True)]
        assert mirrored.text_id == text_id(mirror_sentence(item.sentence)) != text_id(item.sentence)
        assert torch.equal(mirrored.target, dataset[item].target.flip(-1))

    def test_readers_in_other_processes_read_the_same(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        plan = ComposedPlan(train_index, PLAN, compose(train_index), seed=0)
        alone, together = (
            next(iter(build_loader(dataset, plan, num_workers=count))) for count in (0, 1)
        )
        assert torch.equal(alone.token_ids, together.token_ids)
        assert torch.equal(alone.targets, together.targets)

    def test_referents_are_of_one_image(self, train_index):
        for item in all_items(train_index, compose(train_index, only("multi"))):
            if kind_of(item) == "multi":
                assert len({train_index[row].image_id for row in item.target_rows}) == 1

    def test_what_means_several_already_is_not_joined(self, generalized_index):
        rows = generalized_index
        composed = [
            item
            for item in all_items(rows, compose(rows, only("multi")))
            if kind_of(item) == "multi"
        ]
        assert composed
        for item in composed:
            ids = [rows[row].annotation_ids for row in item.target_rows]
            if item.sentence is not None:
                assert all(len(each) == 1 for each in ids)
                assert len(set(ids)) == len(ids)

    def test_referents_whose_labels_coincide_are_not_joined(self, train_index):
        size = (train_index[0].height, train_index[0].width)
        same = Labels(np.ones(size, np.uint8))
        items = all_items(train_index, compose(train_index, only("multi"), targets=same))
        assert {kind_of(item) for item in items} == {"single"}

    def test_referents_without_a_label_are_not_joined(self, train_index):
        items = all_items(train_index, compose(train_index, only("multi"), targets=Labels(None)))
        assert {kind_of(item) for item in items} == {"single"}

    def test_the_overlap_is_that_of_the_certain_pixels(self, train_index):
        masks = {train_index[0].referent_id: [[1, 1, 0]], train_index[1].referent_id: [[0, 1, 1]]}
        masks[train_index[2].referent_id] = [[1, IGNORE_INDEX, 0]]

        class Store:
            def get(self, dataset, referent_id):
                return np.array(masks[referent_id], np.uint8)

        overlaps = LabelOverlaps(train_index, Store())
        assert overlaps(0, 1) == pytest.approx(1 / 3)
        assert overlaps(0, 2) == pytest.approx(1 / 2)

    def test_long_sentences_are_refused(self, train_index):
        items = all_items(train_index, compose(train_index, only("multi", max_words=5)))
        composed = [item for item in items if kind_of(item) == "multi"]
        assert composed
        assert all(len(item.sentence.split()) <= 5 for item in composed)

    def test_all_objects_of_a_kind_are_counted_and_no_other(self, train_index):
        scenes, first = list_scenes(SPLIT, "train"), {}
        for row, referent in enumerate(train_index):
            first.setdefault(referent.image_id, row)
        items = all_items(train_index, compose(train_index, only("multi", counted_share=1.0)))
        counted = [item for item in items if kind_of(item) == "multi" and is_counted(item.sentence)]
        assert len(counted) > len(items) / 5
        for item in counted:
            objects = scenes[train_index[item.image_row].image_id]
            meant = [i for i, thing in enumerate(objects) if is_of_kind(item.sentence, thing)]
            offset = first[train_index[item.image_row].image_id]
            assert list(item.target_rows) == [offset + number for number in meant], item.sentence

    def test_a_counted_kind_is_joined_with_one_more_object(self, train_index):
        scenes, first = list_scenes(SPLIT, "train"), {}
        for row, referent in enumerate(train_index):
            first.setdefault(referent.image_id, row)
        config = only("multi", counted_share=1.0, counted_and_share=1.0)
        items = all_items(train_index, compose(train_index, config))
        checked = 0
        for item in items:
            image_id = train_index[item.image_row].image_id
            parts = (item.sentence or "").split(" and ")
            nouns = {part: part.split()[-1:] for part in parts if is_counted(part)}
            counted = [part for part, (noun,) in nouns.items() if singular(noun) != noun]
            if kind_of(item) != "multi" or len(counted) != 1 or len(parts) != 2:
                continue
            (other,) = (part for part in parts if part not in counted)
            meant = {i for i, each in enumerate(scenes[image_id]) if is_of_kind(counted[0], each)}
            rows = set(item.target_rows)
            assert {first[image_id] + number for number in meant} < rows, item.sentence
            (row,) = rows - {first[image_id] + number for number in meant}
            said = {sentence.removeprefix("the ") for sentence in train_index[row].sentences}
            assert other.removeprefix("the ") in said
            checked += 1
        assert checked > 10

    @pytest.mark.parametrize(
        "config",
        [
            only("multi", counted_share=0.5, counted_and_share=0.5),
            only("none", swapped_share=0.5),
        ],
        ids=["several", "none"],
    )
    def test_what_the_network_cannot_read_whole_is_refused(self, train_index, config):
        composer = Composer(
            train_index, config, seed=0, overlaps=LabelOverlaps(train_index, "truth"),
            reads_whole=lambda sentence: len(sentence) < 20,
        )  # fmt: skip
        composed = [each for each in all_items(train_index, composer) if kind_of(each) != "single"]
        assert composed
        assert all(len(item.sentence) < 20 for item in composed)

    def test_kinds_whose_labels_coincide_are_not_counted(self, train_index):
        labels = Labels(np.ones((96, 96), np.uint8))
        composer = compose(train_index, only("multi", counted_share=1.0), targets=labels)
        assert {kind_of(item) for item in all_items(train_index, composer)} == {"single"}

    def test_a_sample_that_means_several_or_another_image_stays(self, train_index):
        composer = compose(train_index, only("none"))
        for rows in [(0, 1), (5,)]:
            item = Item(0, image_row=rows[0], target_rows=rows)
            assert composer(item) == item

    def test_counted_sentences_are_as_short_as_the_others(self, train_index):
        composer = compose(train_index, only("multi", counted_share=1.0, max_words=2))
        composed = [each for each in all_items(train_index, composer) if kind_of(each) == "multi"]
        assert composed
        assert all(len(item.sentence.split()) <= 2 for item in composed)

    def test_every_word_that_is_added_is_known_beforehand(self, train_index):
        items = all_items(train_index, compose(train_index, only("multi", counted_share=0.4)))
        single = {sentence for each in train_index for sentence in each.sentences}
        known = {word for sentence in single for word in sentence.split()} | added_words(single)
        said = {word for item in items for word in (item.sentence or "").split()}
        assert {word.strip(",") for word in said} <= known


def is_counted(sentence):
    return " and " not in sentence and bool({"both", *NUMBERS} & set(sentence.split()))


def is_of_kind(sentence, thing):
    words = [word for word in sentence.split() if word not in ("the", "all", "both", *NUMBERS)]
    *adjectives, noun = words
    look = {thing.shape, thing.color, thing.size, thing.pattern}
    return set(adjectives) <= look and singular(noun) in (thing.shape, "thing")


NUMBERS = ("two", "three", "four")


class TestNone:
    def test_the_target_is_empty(self, train_index, spec, words):
        items = all_items(train_index, compose(train_index, only("none")))
        item = next(each for each in items if kind_of(each) == "none")
        sample = ExpressionDataset(train_index, spec, words, targets="truth")[item]
        assert sample.is_no_target
        assert not sample.target.any()

    @pytest.mark.parametrize("swapped_share", [0.0, 1.0])
    def test_no_sentence_is_true_where_every_object_has_sentences(self, train_index, swapped_share):
        scenes = list_scenes(SPLIT, "train")
        composer = compose(train_index, only("none", swapped_share=swapped_share))
        checked = 0
        for epoch in range(3):
            for item in all_items(train_index, composer, epoch=epoch):
                if kind_of(item) == "none":
                    image_id = train_index[item.image_row].image_id
                    assert not find_true(item.sentence, scenes[image_id]), item.sentence
                    checked += 1
        assert checked > 50

    def test_the_image_stays_when_the_sentence_comes_from_another(self, train_index):
        plain = BatchPlan(train_index, PLAN, seed=0).items(0, 0)
        composer = compose(train_index, only("none", swapped_share=0.0))
        composed = ComposedPlan(train_index, PLAN, composer, seed=0).items(0, 0)
        for before, after in zip(plain, composed, strict=True):
            if kind_of(after) == "none":
                own = train_index.expression_row(before.expression)[0]
                other = train_index.expression_row(after.expression)[0]
                assert after.image_row == own
                assert train_index[other].image_id != train_index[own].image_id

    def test_a_sentence_of_the_image_itself_may_be_true(self, train_index):
        evidence = TextEvidence(train_index)
        for row in range(20):
            assert all(evidence.may_be_true(each, row) for each in train_index[row].sentences)

    def test_clip_refuses_what_looks_true(self, train_index):
        composer = compose(train_index, only("none", swapped_share=0.0), clip=Credulous())
        assert {kind_of(item) for item in all_items(train_index, composer)} == {"single"}

    def test_clip_asks_whether_a_sentence_looks_truer_than_most_true_ones_do(self):
        """Four images, each with a sentence that points to it; the last also to the first."""
        images = np.eye(4, dtype=np.float32)
        sentences = images.copy()
        sentences[3] = np.array([0.8, 0, 0, 0.6])
        rows = np.arange(4)
        features = ClipFeatures(images, sentences, rows, rows, rows)
        clip = ClipEvidence(features, missed_share=0.0)
        assert clip.may_be_true(3, 0)
        assert clip.may_be_true(0, 0)
        assert not clip.may_be_true(1, 0)

    def test_clip_is_asked_of_sentences_that_nobody_says(self):
        images, rows = np.eye(4, dtype=np.float32), np.arange(4)
        sentences = images.copy()
        sentences[3] = np.array([0.8, 0, 0, 0.6])
        features = ClipFeatures(images, sentences, rows, rows, rows)
        blind = ClipEvidence(features, missed_share=0.0)
        assert all(blind.new_may_be_true("red square", row) for row in range(4))
        second = np.array([0.1, 0.9, 0.1, 0.1], np.float32)
        seeing = ClipEvidence(features, missed_share=0.0, embed={"red square": second}.__getitem__)
        assert [seeing.new_may_be_true("red square", row) for row in range(4)] == [
            False, True, False, False,
        ]  # fmt: skip

    def test_swapped_sentences_that_look_true_are_refused(self, train_index):
        items = all_items(
            train_index, compose(train_index, only("none", swapped_share=1.0), clip=Credulous())
        )
        assert {kind_of(item) for item in items} == {"single"}


class Credulous(ClipEvidence):
    """Believes everything."""

    def __init__(self):
        pass

    def may_be_true(self, expression, row):
        return True

    def new_may_be_true(self, sentence, row):
        return True


class TestNoTargetRows:
    def test_steps_that_learn_what_sentences_look_like_leave_them_out(self, generalized_index):
        index = generalized_index
        for sampling in ("referents", "images"):
            config = PlanConfig(sampling=sampling, batch_size=4, with_no_target=False)
            plan = BatchPlan(index, config, seed=0)
            rows = {
                index.expression_row(item.expression)[0]
                for step in range(plan.num_steps)
                for item in plan.items(0, step)
            }
            assert rows
            assert not any(index[row].is_no_target for row in rows)

    def test_batches_are_read_with_the_loader(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        plan = ComposedPlan(train_index, PLAN, compose(train_index), seed=0)
        batch = next(iter(build_loader(dataset, plan)))
        assert len(batch.token_ids) == 8
        empty = batch.targets.flatten(1).sum(dim=1) == 0
        assert torch.equal(empty, batch.is_no_target)
