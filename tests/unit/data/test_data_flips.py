from dataclasses import replace

import numpy as np
import pytest
import torch

from tris.batch import IGNORE_INDEX
from tris.data.loader import build_loader
from tris.data.mirror import mirror_sentence
from tris.data.negatives import NegativeSampler, NegativesConfig
from tris.data.plan import BatchPlan, Item, PlanConfig
from tris.data.samples import ExpressionDataset
from tris.data.tokens import text_id
from tris.errors import InputError

HALF = PlanConfig(sampling="images", batch_size=4, flip_probability=0.5)


def find_expression(index, word) -> int:
    """Return the first expression with the word in it."""
    for number in range(index.num_expressions):
        row, position = index.expression_row(number)
        if word in index[row].sentences[position]:
            return number
    raise AssertionError(word)


class TestFlippedSample:
    def test_photograph_and_target_are_mirrored(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        plain, flipped = dataset.__getitems__([Item(0), Item(0, is_flipped=True)])
        assert torch.equal(flipped.image, plain.image.flip(-1))
        assert torch.equal(flipped.target, plain.target.flip(-1))
        assert not torch.equal(flipped.target, plain.target)

    def test_the_sentence_says_so(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words)
        number = find_expression(train_index, "left")
        row, position = train_index.expression_row(number)
        expected = mirror_sentence(train_index[row].sentences[position])
        sample = dataset[Item(number, is_flipped=True)]
        assert torch.equal(sample.token_ids, words([expected])[0][0])
        assert sample.text_id == text_id(expected) != dataset[number].text_id
        assert sample.expression_id == dataset[number].expression_id

    def test_words_of_its_own_are_mirrored_too(self, train_index, spec, words):
        sample = ExpressionDataset(train_index, spec, words)[
            Item(0, sentence="the left star and the ring", is_flipped=True)
        ]
        assert sample.text_id == text_id("the right star and the ring")

    def test_padding_stays_at_the_right_and_bottom(self, train_index, spec, words):
        spec = replace(spec, image_size=(48, 64), resize="pad")
        dataset = ExpressionDataset(train_index, spec, words, targets="truth")
        plain, flipped = dataset.__getitems__([Item(0), Item(0, is_flipped=True)])
        assert plain.content_size == flipped.content_size == (48, 48)
        assert torch.equal(flipped.image[..., :48], plain.image[..., :48].flip(-1))
        assert (flipped.image[..., 48:] == 0).all()
        assert (flipped.target[:, 48:] == IGNORE_INDEX).all()

    def test_a_label_is_mirrored_after_it_was_read(self, train_index, spec, words):
        class LeftHalf:
            def get(self, dataset, referent_id):
                label = np.zeros((96, 96), np.uint8)
                label[:, :48] = 1
                return label

        dataset = ExpressionDataset(train_index, spec, words, targets=LeftHalf())
        target = dataset[Item(0, is_flipped=True)].target
        assert (target[:, :24] == 0).all()
        assert (target[:, 24:] == 1).all()

    def test_negatives_are_mirrored(self, train_index, spec, words):
        negatives = NegativeSampler(train_index, NegativesConfig(count=40), seed=0)
        dataset = ExpressionDataset(train_index, spec, words, negatives=negatives)
        row, position = train_index.expression_row(4)
        plain = negatives.sentences(row, position, epoch=0)
        expected = [mirror_sentence(sentence) for sentence in plain]
        assert expected != plain
        sample = dataset[Item(4, is_flipped=True)]
        assert torch.equal(sample.negative_token_ids, words(expected)[0])


class TestPlan:
    def test_nothing_is_flipped_unless_asked_for(self, train_index):
        plan = BatchPlan(train_index, replace(HALF, flip_probability=0.0), seed=0)
        assert not any(item.is_flipped for batch in plan for item in batch)

    @pytest.mark.parametrize("sampling", ["images", "referents"])
    def test_a_photograph_is_flipped_as_a_whole_and_anew_each_epoch(self, train_index, sampling):
        plan = BatchPlan(train_index, replace(HALF, sampling=sampling), seed=0)
        turned = set()
        for epoch in range(4):
            plan.start_at(epoch)
            flips = {}
            for item in (item for batch in plan for item in batch):
                image_id = train_index[train_index.expression_row(item.expression)[0]].image_id
                assert flips.setdefault(image_id, item.is_flipped) == item.is_flipped
            assert 0.2 < sum(flips.values()) / len(flips) < 0.8
            turned.add(tuple(sorted(flips.items())))
        assert len(turned) == 4

    def test_flips_change_neither_order_nor_sentences(self, train_index):
        pairs = PlanConfig(batch_size=8)
        plain = BatchPlan(train_index, pairs, seed=0)
        flipping = BatchPlan(train_index, replace(pairs, flip_probability=0.5), seed=0)
        for one, other in zip(plain, flipping, strict=True):
            assert [item._replace(is_flipped=False) for item in other] == one

    @pytest.mark.parametrize("num_processes", [2, 4])
    def test_processes_together_see_the_batch_of_one(self, train_index, num_processes):
        whole = BatchPlan(train_index, HALF, seed=3)
        parts = [
            BatchPlan(train_index, HALF, seed=3, process_index=i, num_processes=num_processes)
            for i in range(num_processes)
        ]
        assert [item for part in parts for item in part.items(1, 2)] == whole.items(1, 2)

    def test_probability_one_flips_every_row_of_a_batch(self, train_index, spec, words):
        dataset = ExpressionDataset(train_index, spec, words)
        batches = [
            next(iter(build_loader(dataset, BatchPlan(train_index, config, seed=0))))
            for config in (replace(HALF, flip_probability=p) for p in (0.0, 1.0))
        ]
        assert torch.equal(batches[1].images, batches[0].images.flip(-1))

    @pytest.mark.parametrize("probability", [-0.1, 1.5])
    def test_what_is_no_probability_is_refused(self, train_index, probability):
        with pytest.raises(InputError, match="flip_probability"):
            BatchPlan(train_index, replace(HALF, flip_probability=probability), seed=0)
