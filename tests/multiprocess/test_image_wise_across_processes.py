"""Image-wise batches: parts hold unequally many sentences, and yet P processes equal one."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from configs.segmenter import dmmi_debug, haris_debug, haris_synthetic, tris_synthetic
from configs.segmenter.tris_synthetic import IMAGE_LOSSES
from stages.train_response import calibrate
from stages.train_segmenter import find_losses
from tris.batch import IGNORE_INDEX, Batch, InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig
from tris.response.calibration import CalibrationConfig, Calibrator
from tris.response.classification import ClassificationConfig, classification_loss
from tris.response.response_net import ResponseNetConfig
from tris.training.wrapped import NetworkWithLoss

SPEC = InputSpec(image_size=(64, 64), tokenizer=TokenizerConfig(context_length=8))
CLIP = ClipConfig(architecture="tris-small", pretrained="", input_spec=SPEC)
IMAGE_INDEX = torch.tensor([0, 0, 0, 0, 1, 2, 2, 3])
REFERENT_ID = torch.tensor([5, 5, 6, 7, 8, 9, 10, 11])
FIRST_HALF = 5
"""Expressions of the first two images; the other two have three."""
WITH_LANGUAGE = {
    "dmmi": dataclasses.replace(dmmi_debug.get_debug_config(), dropout=0.0),
    "haris": dataclasses.replace(haris_debug.get_debug_config(), dropout=0.0),
    "haris, frozen": dataclasses.replace(haris_synthetic.get_debug_config(), dropout=0.0),
}
SEGMENTERS = {"tris": tris_synthetic.get_debug_config(), **WITH_LANGUAGE}
"""All are compared as they train, with the losses that exist only then."""

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    num = len(IMAGE_INDEX)
    token_ids = torch.randint(3, 60, (num, 8), generator=generator)
    token_ids[:, 7] = 63
    targets = (torch.rand(num, 64, 64, generator=generator) > 0.8).to(torch.uint8)
    return Batch(
        images=torch.randn(4, 3, 64, 64, generator=generator).double(),
        image_id=torch.arange(4) + 100,
        original_size=torch.full((4, 2), 64),
        content_size=torch.full((4, 2), 64),
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=IMAGE_INDEX,
        referent_id=REFERENT_ID,
        expression_id=torch.arange(num),
        text_id=torch.tensor([1, 2, 3, 4, 5, 1, 7, 8]),
        is_no_target=torch.zeros(num, dtype=torch.bool),
        group_index=torch.zeros(num, dtype=torch.long),
        targets=targets,
        negative_token_ids=token_ids.flip(0)[:, None].repeat(1, 2, 1),
        negative_token_mask=(token_ids > 0)[:, None].repeat(1, 2, 1),
    )


def make_language_batch() -> Batch:
    """The same batch; one sentence means nothing, each lost a word, pixels are unknown."""
    batch = make_batch()
    targets = batch.targets.clone()
    targets[2] = 0
    targets[0, :40] = IGNORE_INDEX
    targets[6, :, 9:30] = IGNORE_INDEX
    erased = batch.token_ids.clone()
    erased[:, 2] = 0
    is_no_target = torch.arange(len(targets)) == 2
    return batch._replace(targets=targets, erased_token_ids=erased, is_no_target=is_no_target)


def batch_for(kind: str) -> Batch:
    batch = make_language_batch() if kind in WITH_LANGUAGE else make_batch()
    # Frozen maps are handed on in single precision, whatever comes in.
    return batch._replace(images=batch.images.float()) if kind == "haris, frozen" else batch


PER_IMAGE = ("images", "image_id", "original_size", "content_size")


def take(batch: Batch, rank: int) -> Batch:
    images, rows = slice(2 * rank, 2 * rank + 2), slice(None, FIRST_HALF)
    rows = rows if rank == 0 else slice(FIRST_HALF, None)
    part = {
        name: value[images if name in PER_IMAGE else rows]
        for name, value in batch._asdict().items()
        if value is not None
    }
    part["image_index"] = part["image_index"] - 2 * rank
    return batch._replace(**part)


def response_loss(network, batch):
    config = ClassificationConfig(sentences_of_one_referent_compete=False)
    maps = network(batch, all_pairs=True)
    losses = calibrate(network.judge[0], maps.response_logits, batch, SPEC)
    return losses | {"classification": classification_loss(maps.pairs, config)}


def segmenter_loss(network, batch):
    return find_losses(network, network(batch), batch, IMAGE_LOSSES)


def build(kind: str) -> NetworkWithLoss:
    torch.manual_seed(0)
    if kind in SEGMENTERS:
        network = SEGMENTERS[kind].build().train()
        network = network if kind == "haris, frozen" else network.double()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # statistics of parts are `sync_batch_norm`'s affair
        return NetworkWithLoss(network, segmenter_loss)
    network = ResponseNetConfig(encoder=CLIP, input_spec=SPEC, dim=16).build().double().eval()
    calibration = CalibrationConfig(encoder=CLIP, clamp_negatives=True)
    network.judge = [Calibrator(CLIP.build().double(), calibration)]
    return NetworkWithLoss(network, response_loss)


def gradients(model, batch) -> dict[str, torch.Tensor]:
    torch.stack([term.double() for term in model(batch).values()]).sum().backward()
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def work(rank: int, kind: str, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = DistributedDataParallel(build(kind), find_unused_parameters=True)
    grads = gradients(model, take(batch_for(kind), rank))
    if rank == 0:
        torch.save(grads, out)
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("response", 1e-5),
        ("tris", 1e-4),
        ("dmmi", 1e-4),
        ("haris", 1e-4),
        ("haris, frozen", 1e-3),
    ],
)
def test_two_processes_have_the_gradients_of_one(kind, tolerance, tmp_path: Path):
    alone = gradients(build(kind), batch_for(kind))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    out = tmp_path / "gradients.pt"
    multiprocessing.spawn(work, args=(kind, port, str(out)), nprocs=2)
    together = torch.load(out, weights_only=True)
    assert set(alone) <= set(together)
    assert len(alone) > 40
    for name, gradient in alone.items():
        # Biases in front of an instance norm have no gradient but rounding.
        scale = gradient.norm().clamp(min=1e-5)
        assert float((together[name] - gradient).norm() / scale) <= tolerance, name


def test_dmmi_is_compared_with_its_language_losses():
    network = build("dmmi").network
    losses = network.loss(network(make_language_batch()), make_language_batch())
    assert set(losses) == {"mask_loss", "similarity_loss", "contrastive_loss"}
    assert all(loss > 0 for loss in losses.values())
