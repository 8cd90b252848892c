import sys

import pytest
import torch

from stages.setup import start_stage

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
