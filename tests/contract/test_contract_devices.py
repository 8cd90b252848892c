"""Training steps are the same on another device: nothing is made in the wrong place."""

import copy

import numpy as np
import pytest
import torch

from configs import debug
from tests.contract.other_device import DEVICE, Elsewhere, OtherDevice, move, take
from tests.contract.test_contract_segmenters import (
    CONFIG_NAMES,
    TWO_IMAGES_FIVE_SENTENCES,
    import_config,
    keep_distinct,
    make_batch,
    total,
)
from tris.model_directory import ParameterGroup
from tris.pseudo.averaging import ask_images
from tris.response.calibration import CalibrationConfig, Calibrator
from tris.response.classification import ClassificationConfig, classification_loss
from tris.response.contrastive import ContrastiveConfig, contrastive_losses
from tris.segmenters.image_losses import ImageLossConfig, image_losses
from tris.training.optim import build_optimizer
from tris.training.settings import TrainingConfig

SETTINGS = TrainingConfig(steps=2, learning_rate=1e-3)


def step(network, batch, losses_of):
    """Return the losses of one step, and the gradients; the weights are moved, too."""
    torch.manual_seed(0)
    losses = losses_of(network, batch)
    trained = [each for each in network.parameters() if each.requires_grad]
    optimizer = build_optimizer([ParameterGroup("all", trained)], SETTINGS)
    total(losses).backward()
    optimizer.step()
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    return {name: loss.item() for name, loss in losses.items()}, gradients


def check_step(network, batch, losses_of):
    expected, gradients = step(copy.deepcopy(network), batch, losses_of)
    with OtherDevice():
        losses, moved = step(take(network), move(batch), losses_of)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert all(weight.device == DEVICE for weight in network.parameters())
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    for gradient, other in zip(gradients, moved, strict=True):
        torch.testing.assert_close(other.here, gradient, rtol=1e-2, atol=1e-2 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("name", keep_distinct(CONFIG_NAMES))
def test_a_segmenter_is_trained_there(name):
    torch.manual_seed(0)
    network = import_config(name).get_debug_config().build().train()

    def losses_of(network, batch):
        output = network(batch)
        weights = ImageLossConfig(referent_weight=1.0, dice_weight=1.0)
        return network.loss(output, batch) | image_losses(output.mask_logits, batch, weights)

    check_step(network, make_batch(network, TWO_IMAGES_FIVE_SENTENCES), losses_of)


@pytest.mark.slow
@pytest.mark.parametrize("same_image", ["ignore", "positive", "negative"])
def test_stage_one_is_trained_there(same_image):
    torch.manual_seed(0)
    network = debug.get_config().response.network.build().train()
    judge = Calibrator(debug.TINY_CLIP.build(), CalibrationConfig(num_negatives=2))
    judges = {torch.device("cpu"): copy.deepcopy(judge), DEVICE: take(judge)}
    batch = make_batch(network, TWO_IMAGES_FIVE_SENTENCES)
    negatives = batch.token_ids.roll(1, 0).unsqueeze(1).expand(-1, 2, -1)
    config = ClassificationConfig(same_image=same_image)

    def losses_of(network, batch):
        maps = network(batch, all_pairs=True)
        terms = judges[batch.images.device](
            maps.response_logits, batch, input_spec=network.input_spec
        )
        return {"classification_loss": classification_loss(maps.pairs, config)} | terms

    check_step(network, batch._replace(targets=None, negative_token_ids=negatives), losses_of)


@pytest.mark.slow
def test_stage_zero_is_trained_there():
    torch.manual_seed(0)
    network = debug.TINY_CLIP.build().train()
    batch = make_batch(network, TWO_IMAGES_FIVE_SENTENCES)._replace(targets=None)
    check_step(network, batch, lambda *given: contrastive_losses(*given, ContrastiveConfig()))


def test_relabelling_asks_there_as_in_memory():
    torch.manual_seed(0)
    network = import_config("tris_debug").get_debug_config().build().eval()
    batch = make_batch(network, TWO_IMAGES_FIVE_SENTENCES)

    def ask(network, batch):
        return list(ask_images(lambda asked: network(asked).mask_logits, [([*range(5)], batch)]))

    expected = ask(network, batch)
    with OtherDevice():
        found = ask(take(network), move(batch))
    assert [numbers for numbers, _ in found] == [numbers for numbers, _ in expected]
    for (_, maps), (_, wanted) in zip(found, expected, strict=True):
        np.testing.assert_allclose(maps, wanted, atol=1e-5)


def test_what_a_gpu_would_refuse_is_refused():
    with OtherDevice():
        there = Elsewhere(torch.ones(2, 2))
        assert (there + 1).device == DEVICE
        assert torch.zeros(2, device=there.device).device == DEVICE
        with pytest.raises(AssertionError, match="in memory"):
            there + torch.zeros(2, 2)
        with pytest.raises(AssertionError, match="in memory"):
            torch.zeros(2, 2)[there.long()]
        with pytest.raises(AssertionError, match="of integers"):
            there.long() @ there.long()
        with pytest.raises(TypeError, match="no array"):
            there.numpy()
        assert (there.cpu() + torch.zeros(2, 2)).numpy().sum() == 4
