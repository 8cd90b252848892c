import sys

import pytest
import torch

from stages.setup import on_device, start_stage

DEBUG = ["--config", "configs/debug.py", "--segmenter", "configs/segmenter/tris_debug.py"]


@pytest.fixture
def start(tmp_path, monkeypatch):
    def start(*settings):
        monkeypatch.setattr(sys, "argv", ["stage", *DEBUG, "--run", str(tmp_path), *settings])
        return start_stage("A stage.", training="segmenter.training")

    yield start
    torch.backends.cuda.enable_flash_sdp(True)


@pytest.mark.parametrize(("attention", "is_fused"), [("None", True), ("plain", False)])
def test_plain_attention_is_taken_where_a_training_says_so(start, attention, is_fused):
    torch.backends.cuda.enable_flash_sdp(not is_fused)
    start("--segmenter.training.attention", attention)
    assert torch.backends.cuda.flash_sdp_enabled() == is_fused


def test_networks_are_used_in_the_layout_that_training_has(start):
    network = on_device(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2)), start()
    )
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not network[0].weight.is_contiguous()
