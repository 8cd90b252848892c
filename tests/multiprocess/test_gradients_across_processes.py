"""Negatives are gathered with gradients: P processes of B / P equal one process of B."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tris.batch import Batch, InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig
from tris.response.calibration import CalibrationConfig, Calibrator
from tris.response.classification import ClassificationConfig, classification_loss
from tris.response.contrastive import ContrastiveConfig, contrastive_losses
from tris.response.response_net import ResponseNetConfig
from tris.training.wrapped import NetworkWithLoss

SPEC = InputSpec(image_size=(64, 64), tokenizer=TokenizerConfig(context_length=8))
CLIP = ClipConfig(architecture="tris-small", pretrained="", input_spec=SPEC)
GLOBAL_BATCH = 4

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    rows = torch.arange(GLOBAL_BATCH)
    token_ids = torch.randint(3, 60, (GLOBAL_BATCH, 8), generator=generator)
    token_ids[:, 7] = 63
    return Batch(
        images=torch.randn(GLOBAL_BATCH, 3, 64, 64, generator=generator).double(),
        image_id=rows + 100,
        original_size=torch.full((GLOBAL_BATCH, 2), 64),
        content_size=torch.full((GLOBAL_BATCH, 2), 64),
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=rows,
        referent_id=rows,
        expression_id=rows,
        text_id=torch.tensor([1, 2, 1, 4]),
        is_no_target=torch.zeros(GLOBAL_BATCH, dtype=torch.bool),
        group_index=torch.zeros(GLOBAL_BATCH, dtype=torch.long),
        negative_token_ids=token_ids.flip(0)[:, None].repeat(1, 2, 1),
        negative_token_mask=(token_ids > 0)[:, None].repeat(1, 2, 1),
    )


def take(batch: Batch, rows: slice) -> Batch:
    part = {name: value[rows] for name, value in batch._asdict().items() if value is not None}
    part["image_index"] = torch.arange(len(part["images"]))
    return batch._replace(**part)


def response_loss(network, batch):
    judge = network.judge[0]
    maps = network(batch, all_pairs=True)
    losses = {"classification": classification_loss(maps.pairs, ClassificationConfig())}
    return losses | judge(maps.response_logits, batch, input_spec=SPEC)


def build(kind: str) -> NetworkWithLoss:
    torch.manual_seed(0)
    if kind == "contrastive":
        encoder = CLIP.build().double().eval()
        for name in ("ln_final", "text_projection"):
            getattr(encoder.clip, name).requires_grad_(True)
        return NetworkWithLoss(
            encoder, lambda net, batch: contrastive_losses(net, batch, ContrastiveConfig())
        )
    config = ResponseNetConfig(encoder=CLIP, input_spec=SPEC, dim=16)
    network = config.build().double().eval()
    calibration = dataclasses.replace(CalibrationConfig(), encoder=CLIP)
    network.judge = [Calibrator(CLIP.build().double(), calibration)]
    return NetworkWithLoss(network, response_loss)


def gradients(model, batch) -> dict[str, torch.Tensor]:
    losses = model(batch)
    torch.stack(list(losses.values())).sum().backward()
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def work(rank: int, kind: str, port: int, out: str) -> None:
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = DistributedDataParallel(build(kind))
    share = GLOBAL_BATCH // 2
    grads = gradients(model, take(make_batch(), slice(rank * share, (rank + 1) * share)))
    if rank == 0:
        torch.save(grads, out)
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["response", "contrastive"])
def test_two_processes_have_the_gradients_of_one(kind: str, tmp_path: Path):
    alone = gradients(build(kind), make_batch())
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    out = tmp_path / "gradients.pt"
    multiprocessing.spawn(work, args=(kind, port, str(out)), nprocs=2)
    together = torch.load(out, weights_only=True)
    assert set(together) == set(alone)
    assert len(alone) > 40
    for name, gradient in alone.items():
        # Biases in front of an instance norm have no gradient but rounding, about 1e-14.
        scale = gradient.norm().clamp(min=1e-6)
        assert float((together[name] - gradient).norm() / scale) <= 1e-5, name
