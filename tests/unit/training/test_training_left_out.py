import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tris.errors import InputError
from tris.model_directory import ParameterGroup
from tris.training.checkpoint import read_tensors
from tris.training.optim import build_optimizer
from tris.training.run import TrainingRun
from tris.training.settings import TrainingConfig


class HalfStored(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Linear(2, 2).requires_grad_(False)
        torch.manual_seed(0)
        self.head = nn.Linear(2, 1)

    def left_out(self):
        return {"encoder.": "a-public-name"}


def make_run(folder, *, encoder_seed=0):
    network = HalfStored(encoder_seed)
    config = TrainingConfig(steps=4, learning_rate=0.1, ema_decay=0.5)
    return TrainingRun(
        Accelerator(cpu=True),
        network,
        build_optimizer([ParameterGroup("heads", list(network.head.parameters()))], config),
        config=config,
        total_steps=4,
        steps_per_epoch=4,
        directory=folder,
        fingerprint={},
    )


@pytest.fixture
def saved(tmp_path):
    run = make_run(tmp_path)
    with torch.no_grad():
        run.network.head.weight.fill_(3.0)
        run.average.module.head.weight.fill_(4.0)
    with run:
        run.save()
    return tmp_path


def test_a_checkpoint_holds_neither_network_nor_average_of_what_is_left_out(saved):
    shared = read_tensors(next(saved.glob("checkpoints/*/shared.pt")))
    assert set(shared["network"]) == {"head.weight", "head.bias"}
    assert set(shared["average"]) == {"n_averaged", "module.head.weight", "module.head.bias"}
    assert shared["left_out"]["encoder."]["source"] == "a-public-name"


def test_a_run_resumes_with_the_encoder_it_was_built_with(saved):
    run = make_run(saved)
    assert run.network.head.weight.eq(3).all()
    assert run.average.module.head.weight.eq(4).all()
    assert torch.equal(run.network.encoder.weight, HalfStored(0).encoder.weight)


def test_a_run_with_another_encoder_is_refused(saved):
    with pytest.raises(InputError, match="was trained with the frozen weights a-public-name"):
        make_run(saved, encoder_seed=1)
