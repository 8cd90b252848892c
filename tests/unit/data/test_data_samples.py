import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from tris.batch import IGNORE_INDEX, TokenizerConfig
from tris.data.loader import build_loader
from tris.data.masks import decode_mask
from tris.data.negatives import NegativeSampler, NegativesConfig
from tris.data.plan import BatchPlan, Item, PlanConfig, evaluation_batches
from tris.data.recent import RecentReferents
from tris.data.samples import NO_SINGLE_REFERENT, ExpressionDataset, unite
from tris.data.tokens import build_tokenizer, text_id
from tris.data.transforms import to_target
from tris.errors import InputError

PAIRS = PlanConfig(batch_size=8)
IMAGES = PlanConfig(sampling="images", batch_size=4)
ONE_EACH = replace(IMAGES, max_expressions_per_referent=1)


def equal(one, other) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


class Labels:
    """A label source that knows the even referents: half a mask, half to be ignored."""

    def __init__(self, *, size=(96, 96)):
        self.size, self.asked = size, []

    def get(self, dataset, referent_id):
        self.asked.append((dataset, referent_id))
        if referent_id % 2:
            return None
        label = np.ones(self.size, np.uint8)
        label[: self.size[0] // 2] = IGNORE_INDEX
        return label


class TestSamples:
    def test_a_sample_carries_its_row(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words)
        assert len(dataset) == train_index.num_expressions
        for expression in (0, 5, len(dataset) - 1):
            row, position = train_index.expression_row(expression)
            referent, sample = train_index[row], dataset[expression]
            assert sample.image_id == referent.image_id
            assert sample.referent_id == referent.referent_id
            assert sample.expression_id == referent.expression_ids[position]
            assert sample.text_id == text_id(referent.sentences[position])
            assert torch.equal(sample.token_ids, words([referent.sentences[position]])[0][0])
            assert sample.original_size == (96, 96)
            assert sample.content_size == (48, 48)
            assert sample.image.shape == (3, 48, 48)
            assert sample.target is None

    def test_truth_is_the_annotated_mask(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        expected = to_target(decode_mask(train_index[1].mask), spec)
        assert torch.equal(dataset[train_index.first_expression(1)].target, expected)

    def test_labels_come_from_the_source_once_per_referent(self, train_index, spec, words):
        labels = Labels()
        dataset = ExpressionDataset(train_index, spec, words, targets=labels)
        samples = dataset.__getitems__([0, 1, 2])
        assert labels.asked == [("refcoco", train_index[0].referent_id)]
        assert samples[0].target is samples[2].target

    def test_ignored_pixels_stay_ignored(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets=Labels())
        target = dataset[train_index.first_expression(1)].target
        assert (target[:24] == IGNORE_INDEX).all()
        assert (target[24:] == 1).all()

    def test_a_referent_without_a_label_is_ignored_whole(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets=Labels())
        assert (dataset[0].target == IGNORE_INDEX).all()

    def test_a_label_may_be_an_rle(self, train_index, spec, words):
        class Rles:
            def get(self, dataset, referent_id):
                return train_index[0].mask

        truth = ExpressionDataset(train_index, spec, words, targets="truth")
        labelled = ExpressionDataset(train_index, spec, words, targets=Rles())
        assert torch.equal(truth[0].target, labelled[0].target)

    def test_a_label_of_another_size_is_refused(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets=Labels(size=(50, 60)))
        with pytest.raises(InputError, match="50 x 60"):
            dataset[train_index.first_expression(1)]

    def test_negatives_are_tokens_beside_the_sentence(self, train_index, spec, words):
        negatives = NegativeSampler(train_index, NegativesConfig(count=3), seed=0)
        dataset = ExpressionDataset(train_index, spec, words, negatives=negatives)
        sample = dataset.__getitems__([Item(4, epoch=2), Item(9, epoch=2)])[1]
        row, position = train_index.expression_row(9)
        expected = words(negatives.sentences(row, position, epoch=2))
        assert torch.equal(sample.negative_token_ids, expected[0])
        assert torch.equal(sample.negative_token_mask, expected[1])

    def test_no_negatives_asked_for_are_none(self, train_index, spec, words):
        negatives = NegativeSampler(train_index, NegativesConfig(), seed=0)
        dataset = ExpressionDataset(train_index, spec, words, negatives=negatives)
        assert dataset[0].negative_token_ids is None

    @pytest.mark.parametrize("kind", ["file", "clip"])
    def test_a_dataset_can_be_sent_to_another_process(self, train_index, spec, words, kind):
        tokenizer = words if kind == "file" else build_tokenizer(TokenizerConfig())
        dataset = ExpressionDataset(train_index, spec, tokenizer, targets="truth")
        copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - made by this test
        assert equal(copy[7], dataset[7])

    def test_rows_are_read_once_while_there_is_room(self, train_index):
        referents = RecentReferents(train_index, capacity=2)
        first = referents[0]
        assert referents[0] is first
        assert [referents[row] for row in (1, 2, 3)] == [train_index[row] for row in (1, 2, 3)]
        assert referents[0] is not first
        assert referents[0] == first


class TestNoLeak:
    def test_a_blind_index_gives_no_target(self, blind_index, spec, words):
        dataset = ExpressionDataset(blind_index, spec, words)
        assert all(dataset[expression].target is None for expression in range(len(dataset)))

    def test_a_blind_index_holds_no_mask_and_no_box(self, blind_index):
        assert not blind_index.has_masks
        assert all(referent.mask is None and referent.boxes == () for referent in blind_index)

    def test_asking_a_blind_index_for_truth_is_refused(self, blind_index, spec, words):
        with pytest.raises(InputError, match="no masks for split train"):
            ExpressionDataset(blind_index, spec, words, targets="truth")

    def test_samples_do_not_depend_on_whether_masks_are_there(
        self, train_index, blind_index, spec, words
    ):
        seeing, blind = (
            ExpressionDataset(
                index,
                spec,
                words,
                negatives=NegativeSampler(index, NegativesConfig(count=3), seed=0),
            )
            for index in (train_index, blind_index)
        )
        for one, other in zip(
            build_loader(seeing, BatchPlan(train_index, PAIRS, seed=0)),
            build_loader(blind, BatchPlan(blind_index, PAIRS, seed=0)),
            strict=True,
        ):
            assert equal(one, other)

    def test_truth_is_not_decoded_unless_asked_for(self, train_index, spec, words, monkeypatch):
        monkeypatch.setattr("tris.data.samples.decode_mask", None)
        ExpressionDataset(train_index, spec, words)[0]
        ExpressionDataset(train_index, spec, words, targets=Labels())[0]


class TestPlan:
    def test_every_referent_comes_once_per_epoch(self, train_index):
        plan = BatchPlan(train_index, replace(PAIRS, drop_last=False), seed=0)
        rows = [train_index.expression_row(item.expression)[0] for batch in plan for item in batch]
        assert sorted(rows) == list(range(len(train_index)))

    def test_sentences_of_a_referent_take_turns_over_epochs(self, train_index):
        plan = BatchPlan(train_index, replace(PAIRS, drop_last=False), seed=0)
        chosen = set()
        for epoch in range(12):
            plan.start_at(epoch)
            chosen |= {item.expression for batch in plan for item in batch}
        assert len(chosen) > 0.95 * train_index.num_expressions

    def test_epochs_have_different_orders(self, train_index):
        plan = BatchPlan(train_index, PAIRS, seed=0)
        assert plan.items(0, 0) != plan.items(1, 0)

    @pytest.mark.parametrize("config", [PAIRS, IMAGES, ONE_EACH])
    @pytest.mark.parametrize("num_processes", [2, 4])
    def test_processes_together_see_the_batch_of_one(self, train_index, config, num_processes):
        whole = BatchPlan(train_index, config, seed=3)
        parts = [
            BatchPlan(train_index, config, seed=3, process_index=i, num_processes=num_processes)
            for i in range(num_processes)
        ]
        for epoch in (0, 5):
            for step in range(whole.num_steps):
                together = [item for part in parts for item in part.items(epoch, step)]
                assert together == whole.items(epoch, step)
                assert all(part.items(epoch, step) for part in parts)

    @pytest.mark.parametrize("config", [PAIRS, IMAGES, ONE_EACH])
    def test_an_epoch_goes_on_where_it_stopped(self, train_index, config):
        unbroken = BatchPlan(train_index, config, seed=0)
        unbroken.start_at(2)
        resumed = BatchPlan(train_index, config, seed=0)
        resumed.start_at(2, 3)
        assert list(resumed) == list(unbroken)[3:]
        assert len(resumed) == len(unbroken) - 3 == len(list(resumed))

    def test_an_image_brings_all_its_sentences(self, train_index):
        plan = BatchPlan(train_index, replace(IMAGES, drop_last=False), seed=0)
        seen = [item.expression for batch in plan for item in batch]
        assert sorted(seen) == list(range(train_index.num_expressions))

    def test_an_image_brings_no_more_than_allowed(self, train_index):
        config = replace(IMAGES, max_expressions_per_image=4)
        plan = BatchPlan(train_index, config, seed=0)
        for batch in plan:
            rows = [train_index.expression_row(item.expression)[0] for item in batch]
            images = [train_index[row].image_id for row in rows]
            assert max(images.count(image) for image in images) <= 4
            assert len({*images}) == 4
            assert len({*batch}) == len(batch)

    def test_a_referent_brings_no_more_than_allowed_and_takes_turns(self, train_index):
        plan = BatchPlan(train_index, ONE_EACH, seed=0)
        chosen = set()
        for epoch in range(12):
            plan.start_at(epoch)
            for batch in plan:
                rows = [train_index.expression_row(item.expression)[0] for item in batch]
                images = {train_index[row].image_id for row in rows}
                everything = [
                    r for r in range(len(train_index)) if train_index[r].image_id in images
                ]
                assert sorted(rows) == everything
            chosen |= {item.expression for batch in plan for item in batch}
        assert len(chosen) > 0.95 * train_index.num_expressions

    def test_both_limits_hold_together(self, train_index):
        config = replace(IMAGES, max_expressions_per_referent=2, max_expressions_per_image=3)
        for batch in BatchPlan(train_index, config, seed=0):
            rows = [train_index.expression_row(item.expression)[0] for item in batch]
            images = [train_index[row].image_id for row in rows]
            assert max(rows.count(row) for row in rows) <= 2
            assert max(images.count(image) for image in images) <= 3

    def test_no_sentence_of_a_referent_is_no_batch(self, train_index):
        with pytest.raises(InputError, match="At most 0 sentences of a referent"):
            BatchPlan(train_index, replace(IMAGES, max_expressions_per_referent=0), seed=0)

    def test_a_batch_that_cannot_be_split_is_refused(self, train_index):
        with pytest.raises(InputError, match="8 referents cannot be split evenly over 3"):
            BatchPlan(train_index, PAIRS, seed=0, num_processes=3)

    def test_a_split_smaller_than_a_batch_is_refused(self, train_index):
        with pytest.raises(InputError, match="fewer than one batch"):
            BatchPlan(train_index, replace(PAIRS, batch_size=4096), seed=0)

    def test_a_rest_too_small_for_all_processes_is_refused(self, train_index):
        config = replace(PAIRS, batch_size=len(train_index) - 1, drop_last=False)
        size = config.batch_size
        with pytest.raises(InputError, match="last batch has 1 referents"):
            BatchPlan(train_index, config, seed=0, num_processes=size)


class TestEvaluationBatches:
    @pytest.mark.parametrize("num_processes", [1, 2, 3, 7])
    @pytest.mark.parametrize("images_per_batch", [1, 4, 100])
    def test_every_expression_comes_exactly_once(
        self, train_index, num_processes, images_per_batch
    ):
        seen = [
            expression
            for process in range(num_processes)
            for batch in evaluation_batches(
                train_index,
                images_per_batch=images_per_batch,
                process_index=process,
                num_processes=num_processes,
            )
            for expression in batch
        ]
        assert sorted(seen) == list(range(train_index.num_expressions))

    def test_an_image_is_in_one_batch(self, train_index):
        batches = evaluation_batches(train_index, images_per_batch=4)
        images = [
            {train_index[train_index.expression_row(e)[0]].image_id for e in batch}
            for batch in batches
        ]
        assert sum(len(ids) for ids in images) == len(set().union(*images)) == 30

    def test_more_processes_than_images_leave_some_without_work(self, train_index):
        assert not evaluation_batches(
            train_index, images_per_batch=1, process_index=35, num_processes=40
        )


class TestLoader:
    @pytest.fixture
    def dataset(self, train_index, spec, words):
        negatives = NegativeSampler(train_index, NegativesConfig(count=2), seed=0)
        return ExpressionDataset(
            train_index, spec, words, targets="truth", negatives=negatives, cache_images=True
        )

    def test_batches_do_not_depend_on_the_number_of_workers(self, train_index, dataset):
        plan = BatchPlan(train_index, IMAGES, seed=0)
        alone, helped = build_loader(dataset, plan), build_loader(dataset, plan, num_workers=2)
        for epoch in (0, 1):
            plan.start_at(epoch, 1)
            assert len(alone) == len(helped) == plan.num_steps - 1
            for one, other in zip(alone, helped, strict=True):
                assert equal(one, other)

    def test_image_batches_share_rows_and_random_pairs_do_not(self, train_index, dataset):
        by_image = next(iter(build_loader(dataset, BatchPlan(train_index, IMAGES, seed=0))))
        assert by_image.images.shape[0] == 4 < by_image.token_ids.shape[0]
        config = replace(PAIRS, batch_size=len(train_index))
        pairs = next(iter(build_loader(dataset, BatchPlan(train_index, config, seed=0))))
        assert pairs.images.shape[0] == len(train_index)

    def test_evaluation_encodes_an_image_once(self, train_index, dataset):
        batches = evaluation_batches(train_index, images_per_batch=10)
        loaded = list(build_loader(dataset, batches))
        assert [batch.images.shape[0] for batch in loaded] == [10, 10, 10]
        assert sum(batch.token_ids.shape[0] for batch in loaded) == train_index.num_expressions

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_bad_input_in_a_worker_arrives_as_one_sentence(
        self, train_index, spec, words, num_workers
    ):
        dataset = ExpressionDataset(train_index, spec, words, targets=Labels(size=(5, 5)))
        loader = build_loader(
            dataset, BatchPlan(train_index, PAIRS, seed=0), num_workers=num_workers
        )
        with pytest.raises(InputError, match=r"^The label of referent \d+ is 5 x 5.*again\.$"):
            list(loader)


class TestMadeOfSeveral:
    def test_an_item_may_bring_its_own_words(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words)
        sample = dataset[Item(3, sentence="the red star and the blue ring")]
        assert sample.text_id == text_id("the red star and the blue ring")
        assert torch.equal(sample.token_ids, words(["the red star and the blue ring"])[0][0])
        assert sample.expression_id == dataset[3].expression_id
        assert sample.referent_id == dataset[3].referent_id

    def test_the_target_of_two_referents_is_the_union_of_theirs(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        first, second = dataset[0], dataset[train_index.first_expression(1)]
        assert first.image_id == second.image_id
        both = dataset[Item(0, target_rows=(0, 1))]
        assert torch.equal(both.target, first.target | second.target)
        assert both.target.sum() > first.target.sum()
        assert both.referent_id == NO_SINGLE_REFERENT
        assert not both.is_no_target

    def test_a_sentence_may_look_at_another_photograph_and_find_nothing(
        self, train_index, spec, words
    ):
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        row = next(r for r in range(9) if train_index[r].image_id != train_index[0].image_id)
        sample = dataset[Item(0, image_row=row, target_rows=(), group=7)]
        shown = dataset[train_index.first_expression(row)]
        assert sample.image_id == shown.image_id
        assert torch.equal(sample.image, shown.image)
        assert sample.target.sum() == 0
        assert sample.is_no_target
        assert sample.group_index == 7

    def test_a_missing_label_among_several_is_ignored_whole(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets=Labels())
        rows = tuple(
            next(r for r in range(9) if train_index[r].referent_id % 2 == odd) for odd in (0, 1)
        )
        sample = dataset[Item(0, target_rows=rows)]
        assert (sample.target == IGNORE_INDEX).all()

    def test_sure_foreground_wins_over_ignored_pixels(self):
        one = np.array([[0, 1, IGNORE_INDEX, IGNORE_INDEX]], np.uint8)
        two = np.array([[0, IGNORE_INDEX, 0, 1]], np.uint8)
        assert unite([one, two]).tolist() == [[0, 1, IGNORE_INDEX, 1]]
