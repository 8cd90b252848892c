import dataclasses
import json
import sys
from types import SimpleNamespace

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


def test_a_stage_that_starts_writes_nothing(start, tmp_path):
    start()
    assert list(tmp_path.iterdir()) == []


def test_the_config_is_kept_whole_once_a_stage_says_so(start, tmp_path):
    for seed in (1, 2):
        start(f"--seed={seed}").keep_config()
        assert json.loads((tmp_path / "config.json").read_text())["seed"] == seed
    assert len(list(tmp_path.iterdir())) == 1


def test_a_stage_that_finds_its_work_done_keeps_the_config_only_where_there_is_none(
    start, tmp_path
):
    for seed in (1, 2):
        start(f"--seed={seed}").keep_config(replaces=False)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_only_the_main_process_keeps_the_config(start, tmp_path):
    other = SimpleNamespace(is_main_process=False)
    dataclasses.replace(start(), accelerator=other).keep_config()
    assert list(tmp_path.iterdir()) == []
