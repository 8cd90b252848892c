import argparse
import dataclasses
import pickle
import shutil
import sys

import pytest
import torch

from configs.segmenter import dmmi_debug
from configs.segmenter._debug import DEBUG_CLIP
from tris.batch import TokenizerConfig
from tris.cli.convert import add_tokenizer, main, read_checkpoint
from tris.data.tokens import build_tokenizer
from tris.encoders.vision_language import VisionLanguageConfig
from tris.errors import InputError
from tris.segmenters.contract import Segmenter


def write(path, content):
    torch.save(content, path)
    return path


def test_reads_the_weights_beside_a_command_line_and_optimiser_state(tmp_path):
    content = {
        "model": {"a.weight": torch.ones(2, 3)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 5e-5}]},
        "lr_scheduler": {"base_lrs": [5e-5], "lr_lambdas": [None]},
        "epoch": 3,
        "args": argparse.Namespace(lr=5e-5),
    }
    state = read_checkpoint(write(tmp_path / "released.pth", content))
    assert list(state) == ["a.weight"]
    assert torch.equal(state["a.weight"], torch.ones(2, 3))


def test_reads_the_old_format_of_torch_too(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"model": {"a": torch.ones(2)}}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path)["a"], torch.ones(2))


class Intruder:
    def __reduce__(self):
        return (pytest.fail, ("code of the checkpoint was run",))


@pytest.mark.parametrize("is_new_format", [True, False])
def test_never_runs_code_of_a_checkpoint(tmp_path, is_new_format):
    path = tmp_path / "evil.pth"
    content = {"model": {}, "args": Intruder()}
    torch.save(content, path, _use_new_zipfile_serialization=is_new_format)
    with pytest.raises(InputError, match="more than tensors"):
        read_checkpoint(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*absent.pth"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint at all", pickle.dumps([1, 2], protocol=2)]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.pth"):
        read_checkpoint(path)


def test_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "cut.pth", {"model": {"a": torch.randn(100, 100)}})
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(InputError, match=r"cut\.pth"):
        read_checkpoint(path)


def test_file_without_model_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="under 'model'"):
        read_checkpoint(write(tmp_path / "other.pth", {"state_dict": {"a": torch.ones(1)}}))


def small_dmmi(vocabulary):
    encoder = VisionLanguageConfig(vision="clip", words="clip", clip=DEBUG_CLIP)
    config = dataclasses.replace(dmmi_debug.get_debug_config(), encoder=encoder)
    tokenizer = TokenizerConfig(kind="bert", path=str(vocabulary), context_length=8)
    spec = dataclasses.replace(config.input_spec, tokenizer=tokenizer)
    return dataclasses.replace(config, input_spec=spec).build()


def test_a_network_with_bert_carries_its_tokenizer(tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ndog")
    network = small_dmmi(tmp_path / "bert")
    assert add_tokenizer(network) == ""
    network.save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "bert")
    loaded = Segmenter.from_pretrained(tmp_path / "model")
    tokenizer = build_tokenizer(loaded.input_spec.tokenizer, assets=loaded.assets)
    assert tokenizer(["dog"])[0].tolist() == [[2, 5, 3, 0, 0, 0, 0, 0]]


def test_a_tokenizer_that_is_not_here_is_named(tmp_path):
    said = add_tokenizer(small_dmmi(tmp_path / "absent"))
    assert "absent" in said
    assert "tokenizer is not in there" in said


def test_command_says_one_sentence_and_leaves_nothing_behind(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tris"])
    path = write(tmp_path / "other.pth", {"model": {"a": torch.ones(1)}})
    with pytest.raises(SystemExit) as leaving:
        main([str(path), "--from", "tris-stage2", "--out", str(tmp_path / "out")])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith("error: The third stage of `backbone.visual`")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.pth"]
