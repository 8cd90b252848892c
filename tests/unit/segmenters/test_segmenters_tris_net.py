import dataclasses
import shutil

import pytest
import torch

from configs.segmenter._debug import DEBUG_CLIP, DEBUG_INPUT
from tris.batch import Batch, InputSpec, TokenizerConfig
from tris.data.tokens import TOKENIZER_FILE
from tris.errors import InputError
from tris.response.response_net import ResponseNet, ResponseNetConfig
from tris.segmenters.tris_net import TrisNet, TrisNetConfig

WORDS = TokenizerConfig(kind="file", path=TOKENIZER_FILE, context_length=8)
STAGE_ONE_INPUT = InputSpec(image_size=(64, 64), tokenizer=WORDS)
STAGE_ONE_CLIP = dataclasses.replace(DEBUG_CLIP, input_spec=STAGE_ONE_INPUT, vocabulary_size=80)
PAPER = TrisNetConfig(encoder=DEBUG_CLIP, input_spec=DEBUG_INPUT, decoder_channels=(8, 12, 16, 20))


def make_batch(size=(64, 64)) -> Batch:
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(2)
    return Batch(
        images=torch.randn(2, 3, *size, generator=generator),
        image_id=index,
        original_size=torch.tensor([size] * 2),
        content_size=torch.tensor([size] * 2),
        token_ids=torch.randint(1, 60, (2, 8), generator=generator),
        token_mask=torch.ones(2, 8, dtype=torch.bool),
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index,
        is_no_target=torch.zeros(2, dtype=torch.bool),
        group_index=torch.zeros(2, dtype=torch.long),
        targets=torch.randint(0, 2, (2, *size), generator=generator).to(torch.uint8),
    )


@pytest.fixture
def stage_one(tmp_path):
    """Directory of a stage-1 network with a tokenizer of its own."""
    torch.manual_seed(1)
    network = ResponseNetConfig(encoder=STAGE_ONE_CLIP, input_spec=STAGE_ONE_INPUT, dim=16).build()
    network.assets[TOKENIZER_FILE] = b"{}"
    network.save_pretrained(tmp_path / "stage1")
    return tmp_path / "stage1"


def build_on(stage_one, **changes) -> TrisNet:
    spec = changes.pop("input_spec", STAGE_ONE_INPUT)
    config = dataclasses.replace(PAPER, stage1_directory=str(stage_one), input_spec=spec, **changes)
    return config.build()


def test_training_loss_is_the_sum_over_four_heads_evaluation_has_one():
    torch.manual_seed(0)
    network, batch = PAPER.build(), make_batch()
    training = network.train()(batch)
    assert training.extras["deep_logits"].shape == (3, 2, 64, 64)
    assert list(network.loss(training, batch)) == ["mask_loss", "deep_supervision_loss"]
    evaluation = network.eval()(batch)
    assert evaluation.extras == {}
    assert list(network.loss(evaluation, batch)) == ["mask_loss"]


def test_deep_supervision_weight_scales_the_coarser_heads():
    torch.manual_seed(0)
    network, batch = PAPER.build().train(), make_batch()
    output = network(batch)
    full = network.loss(output, batch)["deep_supervision_loss"]
    network.config = dataclasses.replace(PAPER, deep_supervision_weight=0.5)
    assert torch.equal(network.loss(output, batch)["deep_supervision_loss"], 0.5 * full)


def test_positive_weight_raises_the_loss_of_missed_foreground():
    torch.manual_seed(0)
    network, batch = PAPER.build().eval(), make_batch()
    batch = batch._replace(targets=torch.ones_like(batch.targets))
    plain = network.loss(network(batch), batch)["mask_loss"]
    network.config = dataclasses.replace(PAPER, positive_weight=3.0)
    torch.testing.assert_close(network.loss(network(batch), batch)["mask_loss"], 3 * plain)


def test_learning_rate_scale_of_positions_is_a_switch():
    for is_full, expected in ((True, 1.0), (False, 0.2)):
        config = dataclasses.replace(
            PAPER, encoder_learning_rate_scale=0.2, has_full_rate_positions=is_full
        )
        groups = {group.name: group for group in config.build().parameter_groups()}
        assert groups["encoder"].learning_rate_scale == 0.2
        assert groups["encoder_positions"].learning_rate_scale == expected
        assert groups["heads"].learning_rate_scale == 1.0
        assert len(groups["encoder_positions"].parameters) == 1


def test_padding_mask_is_a_switch():
    batch = make_batch()
    padded = batch._replace(token_mask=torch.arange(8).expand(2, 8) < 4)
    for masks_padding in (False, True):
        torch.manual_seed(0)
        network = dataclasses.replace(PAPER, mask_padding=masks_padding).build().eval()
        is_same = torch.equal(network(batch).mask_logits, network(padded).mask_logits)
        assert is_same != masks_padding


def test_coordinates_tell_places_apart():
    torch.manual_seed(0)
    network = dataclasses.replace(PAPER, has_coordinate_input=True).build().eval()
    batch = make_batch()
    flat = batch._replace(images=torch.zeros_like(batch.images))
    row = network(flat).mask_logits[0, 32, 24:40]
    torch.manual_seed(0)
    blind = PAPER.build().eval()(flat).mask_logits[0, 32, 24:40]
    assert row.std() > 10 * blind.std()


def test_towers_and_tokenizer_come_from_stage_one(stage_one):
    network = build_on(stage_one, starts_from_stage1=True, input_spec=DEBUG_INPUT)
    trained = ResponseNet.from_pretrained(stage_one).encoder.state_dict()
    own = network.encoder.state_dict()
    assert all(torch.equal(own[key], trained[key]) for key in own)
    assert network.config.encoder == STAGE_ONE_CLIP
    assert network.input_spec.tokenizer == WORDS
    assert network.assets == {TOKENIZER_FILE: b"{}"}


def test_towers_from_stage_one_are_trained(stage_one):
    network = build_on(stage_one, starts_from_stage1=True)
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    assert "encoder.clip.token_embedding.weight" in trainable
    assert "encoder.clip.text_projection" not in trainable


def test_response_is_that_of_stage_one_and_stays_frozen_in_training(stage_one):
    network = build_on(stage_one, starts_from_stage1=True, has_response_input=True).train()
    batch = make_batch()
    before = {key: value.clone() for key, value in network.response.state_dict().items()}
    sum(network.loss(network(batch), batch).values()).backward()
    assert not network.response.training
    assert all(p.grad is None for p in network.response.parameters())
    after = network.response.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    stage_one_network = ResponseNet.from_pretrained(stage_one)
    expected = stage_one_network(batch).response_logits
    torch.testing.assert_close(network.response(batch).response_logits, expected)


def test_response_reaches_the_prediction(stage_one):
    network = build_on(stage_one, starts_from_stage1=True, has_response_input=True).eval()
    batch = make_batch()
    before = network(batch).mask_logits
    with torch.no_grad():
        network.response.text_projection.weight.neg_()
    assert not torch.allclose(before, network(batch).mask_logits)


def test_model_directory_is_complete_without_stage_one(stage_one, tmp_path):
    network = build_on(stage_one, starts_from_stage1=True, has_response_input=True).eval()
    network.save_pretrained(tmp_path / "model")
    shutil.rmtree(stage_one)
    loaded = TrisNet.from_pretrained(tmp_path / "model")
    batch = make_batch()
    assert torch.equal(loaded(batch).mask_logits, network(batch).mask_logits)
    assert loaded.assets == {TOKENIZER_FILE: b"{}"}


def test_response_of_another_input_is_refused(stage_one):
    with pytest.raises(InputError, match="tokenizer differ"):
        build_on(stage_one, has_response_input=True, input_spec=DEBUG_INPUT)


@pytest.mark.parametrize("switch", ["starts_from_stage1", "has_response_input"])
def test_stage_one_must_be_named_where_it_is_wanted(switch):
    with pytest.raises(InputError, match="stage1_directory"):
        dataclasses.replace(PAPER, **{switch: True}).build()


def test_response_must_come_from_stage_one(tmp_path):
    PAPER.build().save_pretrained(tmp_path / "segmenter")
    with pytest.raises(InputError, match="holds a TrisNet, but a ResponseNet"):
        build_on(tmp_path / "segmenter", has_response_input=True)
