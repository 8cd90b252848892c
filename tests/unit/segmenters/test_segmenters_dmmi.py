import dataclasses

import pytest
import torch
import torch.nn.functional as F

from configs.segmenter import dmmi_refcoco_unc, dmmi_synthetic
from configs.segmenter._debug import DEBUG_CLIP
from tris.batch import IGNORE_INDEX, Batch, InputSpec, TokenizerConfig
from tris.data.tokens import TOKENIZER_FILE
from tris.errors import InputError
from tris.response.response_net import ResponseNetConfig
from tris.segmenters.dmmi import Dmmi
from tris.segmenters.dmmi.attention import BidirectionalAttention, RegionQuery, WindowQuery
from tris.segmenters.dmmi.losses import (
    contrastive_loss,
    similarity_loss,
    weighted_cross_entropy,
)

SMALL = dmmi_synthetic.get_debug_config()
RELEASED = dmmi_refcoco_unc.get_debug_config()


def make_batch(**changes) -> Batch:
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(2)
    batch = Batch(
        images=torch.randn(2, 3, 64, 64, generator=generator),
        image_id=index,
        original_size=torch.tensor([(64, 64)] * 2),
        content_size=torch.tensor([(64, 64)] * 2),
        token_ids=torch.randint(1, 60, (2, 8), generator=generator),
        token_mask=torch.arange(8) < torch.tensor([[8], [5]]),
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index,
        is_no_target=torch.zeros(2, dtype=torch.bool),
        group_index=torch.zeros(2, dtype=torch.long),
        targets=torch.randint(0, 2, (2, 64, 64), generator=generator).to(torch.uint8),
    )
    return batch._replace(**changes)


def build(config) -> Dmmi:
    torch.manual_seed(0)
    return config.build()


class TestLosses:
    def test_weighted_cross_entropy_is_that_of_two_classes(self):
        logits = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
        targets = torch.tensor([0, 1, 1, 0, IGNORE_INDEX, 1] * 4, dtype=torch.uint8)
        targets = targets.view(2, 3, 4)
        expected = F.cross_entropy(
            logits, targets.long(), weight=torch.tensor([0.9, 1.1]), ignore_index=IGNORE_INDEX
        )
        found = weighted_cross_entropy(
            logits[:, 1] - logits[:, 0], targets, class_weights=(0.9, 1.1)
        )
        torch.testing.assert_close(found, expected)

    def test_weighted_cross_entropy_of_nothing_known_is_zero(self):
        targets = torch.full((1, 2, 2), IGNORE_INDEX, dtype=torch.uint8)
        loss = weighted_cross_entropy(torch.randn(1, 2, 2), targets, class_weights=(0.9, 1.1))
        assert loss == 0

    def test_similarity_reads_real_tokens_of_expressions_with_a_target(self):
        wanted = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
        recovered = wanted.clone()
        recovered[0, 2] *= -1  # padding
        recovered[0, 1] *= -2
        mask = torch.tensor([[True, True, False], [True, True, True]])
        both = similarity_loss(recovered, wanted, mask, torch.tensor([True, True]))
        one = similarity_loss(recovered, wanted, mask, torch.tensor([True, False]))
        assert both.item() == pytest.approx(1 - (0 + 1) / 2)
        assert one.item() == pytest.approx(1 - (0 + 0) / 2)

    def test_similarity_moves_the_recovered_words_alone(self):
        recovered, wanted = (torch.randn(1, 2, 4, requires_grad=True) for _ in range(2))
        mask = torch.ones(1, 2, dtype=torch.bool)
        similarity_loss(recovered, wanted, mask, torch.tensor([True])).backward()
        assert recovered.grad.any()
        assert wanted.grad is None

    def test_contrastive_keeps_no_target_expressions_as_negatives(self):
        visual, textual = torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 3.0]])
        has_target = torch.tensor([True, False])
        loss = contrastive_loss(visual, textual, has_target, temperature=0.5)
        cosine = 0.5**0.5 / 0.5
        logits = torch.tensor([[cosine, 0.0], [cosine, 2.0]])
        first = torch.tensor([0])
        expected = F.cross_entropy(logits[:1], first) + F.cross_entropy(logits.T[:1], first)
        torch.testing.assert_close(loss, expected / 2)


class TestAttention:
    def test_sum_pooling_adds_the_cells_of_a_region(self):
        query = RegionQuery(3, 3, "sum")
        features = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        cells = F.pad(query.cell(features), (1, 1, 1, 1))
        expected = cells.unfold(2, 3, 1).unfold(3, 3, 1).sum(dim=(-1, -2))
        found = query(features).transpose(1, 2).unflatten(2, (4, 5))
        torch.testing.assert_close(found, expected)

    def test_sum_pooling_adds_the_words_from_one_on(self):
        query = WindowQuery(2, 4, 2, "sum")
        words = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
        mask = torch.tensor([[True, True, True, False]])
        each = query.word(words)[0]
        expected = torch.stack([each[0] + each[1], each[1] + each[2], each[2], 0 * each[3]])
        torch.testing.assert_close(query(words, mask)[0], expected)

    def test_padding_says_nothing_to_the_image(self):
        torch.manual_seed(0)
        attention = BidirectionalAttention(6, 8)
        features, words = torch.randn(1, 6, 3, 4), torch.randn(1, 5, 8)
        mask = torch.arange(5)[None] < 3
        before, said = attention(features, words, mask)
        words[:, 4:] += 5.0
        after, said_again = attention(features, words, mask)
        torch.testing.assert_close(after, before)
        torch.testing.assert_close(said_again[:, :3], said[:, :3])

    def test_without_windows_words_are_not_refined(self):
        attention = BidirectionalAttention(4, 8, windows=())
        mask = torch.ones(1, 5, dtype=torch.bool)
        assert attention(torch.randn(1, 4, 3, 3), torch.randn(1, 5, 8), mask)[1] is None


class TestNetwork:
    def test_training_has_three_losses_evaluation_one(self):
        network, batch = build(SMALL), make_batch()
        names = ["mask_loss", "similarity_loss", "contrastive_loss"]
        assert list(network.train().loss(network(batch), batch)) == names
        assert list(network.eval().loss(network(batch), batch)) == names[:1]

    def test_mask_logits_are_foreground_minus_background(self):
        output = build(SMALL).eval()(make_batch())
        classes = output.extras["class_logits"]
        assert torch.equal(output.mask_logits, classes[:, 1] - classes[:, 0])

    @pytest.mark.parametrize(
        ("changes", "absent"),
        [
            ({"similarity_weight": 0.0}, "similarity_loss"),
            ({"contrastive_weight": 0.0}, "contrastive_loss"),
        ],
    )
    def test_weight_zero_leaves_a_loss_and_its_layers_out(self, changes, absent):
        network, batch = build(dataclasses.replace(SMALL, **changes)).train(), make_batch()
        losses = network.loss(network(batch), batch)
        assert absent not in losses
        torch.stack(list(losses.values())).sum().backward()
        trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        assert not [name for name, p in trainable.items() if p.grad is None]

    def test_ablation_without_image_to_text_attention_trains(self):
        network, batch = build(dataclasses.replace(SMALL, windows=())).train(), make_batch()
        losses = network.loss(network(batch), batch)
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)

    def test_erased_words_are_all_that_erasing_changes(self):
        network, batch = build(SMALL).train(), make_batch()
        erased = batch.token_ids.clone()
        erased[:, 2:4] = 0
        whole, less = (network(batch._replace(erased_token_ids=ids)) for ids in (None, erased))
        assert torch.equal(whole.mask_logits, less.mask_logits)
        assert torch.equal(whole.extras["refined_words"], less.extras["refined_words"])
        assert not torch.equal(whole.extras["recovered_words"], less.extras["recovered_words"])

    def test_a_batch_of_sentences_about_nothing_trains(self):
        nothing = {
            "is_no_target": torch.ones(2, dtype=torch.bool),
            "targets": torch.zeros(2, 64, 64, dtype=torch.uint8),
        }
        network, batch = build(SMALL).train(), make_batch(**nothing)
        losses = network.loss(network(batch), batch)
        assert all(value.isfinite() for value in losses.values())
        assert losses["contrastive_loss"] == 0
        assert losses["similarity_loss"].item() == pytest.approx(SMALL.similarity_weight)

    def test_released_groups_spare_norms_of_the_backbone_and_most_of_bert(self):
        network = build(RELEASED)
        decays = {
            id(p): group.weight_decay
            for group in network.parameter_groups()
            for p in group.parameters
        }
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                assert name.startswith(("encoder.words.bert.embeddings", "encoder.words.bert."))
                continue
            is_norm = "norm" in name or "relative_position_bias" in name
            is_backbone = name.startswith(("encoder.vision", "fusions", "skip_norms"))
            assert decays[id(parameter)] == (0.0 if is_norm and is_backbone else None), name

    def test_without_a_reader_the_last_gate_is_left_out(self):
        assert build(RELEASED).fusions[-1].gate is None
        assert build(SMALL).fusions[-1].gate is not None


WORDS = TokenizerConfig(kind="file", path=TOKENIZER_FILE, context_length=8)
STAGE_ONE_INPUT = InputSpec(image_size=(64, 64), tokenizer=WORDS)
STAGE_ONE_CLIP = dataclasses.replace(DEBUG_CLIP, input_spec=STAGE_ONE_INPUT, vocabulary_size=80)


def test_starts_from_both_towers_and_the_tokenizer_of_stage_1(tmp_path):
    torch.manual_seed(1)
    first = ResponseNetConfig(encoder=STAGE_ONE_CLIP, input_spec=STAGE_ONE_INPUT, dim=16).build()
    first.assets[TOKENIZER_FILE] = b"{}"
    first.save_pretrained(tmp_path / "stage1")
    config = dataclasses.replace(
        SMALL, starts_from_stage1=True, stage1_directory=str(tmp_path / "stage1"), response=None
    )
    network = build(config).eval()
    batch = make_batch()
    expected = first.encoder.eval().encode_pyramid(batch.images)[0]
    vision = network.encoder.vision
    torch.testing.assert_close(vision.stage(0, vision.stem(batch.images)), expected)
    assert network.input_spec.tokenizer == WORDS
    assert network.config.encoder.clip.vocabulary_size == 80
    network.save_pretrained(tmp_path / "model")
    loaded = Dmmi.from_pretrained(tmp_path / "model")
    assert loaded.assets == {TOKENIZER_FILE: b"{}"}
    assert torch.equal(loaded(batch).mask_logits, network(batch).mask_logits)


def test_stage_1_is_asked_for_where_it_is_wanted_and_not_named():
    with pytest.raises(InputError, match="stage1_directory"):
        dataclasses.replace(SMALL, starts_from_stage1=True).build()
