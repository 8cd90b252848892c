import json
from dataclasses import dataclass

import pytest
import safetensors
import safetensors.torch
import torch

from configs.segmenter import tris_debug
from tris.encoders.clip import ClipEncoder
from tris.errors import InputError
from tris.model_directory import PretrainedModel, decode_config, find_class
from tris.response.response_net import ResponseNet
from tris.segmenters.contract import Segmenter


def make_network():
    torch.manual_seed(0)
    config = tris_debug.get_debug_config()
    return config.build()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    network = make_network()
    network.assets["words.json"] = b"{}"
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_network_comes_back_exactly(saved):
    network, back = make_network(), Segmenter.from_pretrained(saved)
    assert back.config == network.config
    assert back.assets == {"words.json": b"{}"}
    assert not back.training
    state = back.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_it_holds_config_weights_card_and_assets_and_nothing_else(saved):
    names = {path.name for path in saved.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "words.json"}
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_others_may_read_it(saved):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in [saved, *saved.iterdir()])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_save_leaves_the_old_directory_whole(copy, monkeypatch, error):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def fail(state, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(type(error), match=None if error.args == () else "No space"):
        make_network().save_pretrained(copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["model"]


def test_weights_that_do_not_fit_on_the_disk_are_one_sentence(tmp_path, monkeypatch):
    def fail(state, path):
        raise safetensors.SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(InputError, match="free some space"):
        make_network().save_pretrained(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_save_replaces_what_was_there(copy):
    (copy / "old.txt").write_text("old")
    make_network().save_pretrained(copy)
    assert not (copy / "old.txt").exists()


def test_another_kind_of_network_is_refused(saved):
    for wanted in (ResponseNet, ClipEncoder):
        with pytest.raises(InputError, match=f"a {wanted.__name__} is wanted here"):
            wanted.from_pretrained(saved)


@pytest.mark.parametrize("name", ["os:system", "trisx.evil:Evil", "subprocess:Popen", ""])
def test_a_class_of_another_package_is_refused(copy, name):
    edit(copy, **{"class": name})
    with pytest.raises(InputError, match="only name classes of tris"):
        PretrainedModel.from_pretrained(copy)


def test_a_class_that_this_version_lacks_is_named():
    with pytest.raises(InputError, match=r"no class 'tris\.segmenters\.tris_net:Nothing'"):
        find_class("tris.segmenters.tris_net:Nothing")


def test_an_asset_outside_the_directory_is_refused(copy):
    edit(copy, assets=["../secret"])
    with pytest.raises(InputError, match="outside itself"):
        PretrainedModel.from_pretrained(copy)


def test_an_unknown_field_of_the_config_is_named(copy):
    config = json.loads((copy / "config.json").read_text())["config"]
    edit(copy, config={**config, "number_of_ears": 2})
    with pytest.raises(InputError, match="number_of_ears"):
        PretrainedModel.from_pretrained(copy)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(InputError, match=missing):
        PretrainedModel.from_pretrained(copy)


def test_damaged_files_are_named(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        PretrainedModel.from_pretrained(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        PretrainedModel.from_pretrained(copy)


def test_weights_of_another_shape_missing_or_left_over_are_listed(copy):
    state = safetensors.torch.load_file(copy / "model.safetensors")
    first, second, *_ = (name for name in state if state[name].ndim)
    lost = state.pop(first)
    state[second] = torch.zeros(1, 2, 3)
    state["extra"] = lost
    safetensors.torch.save_file(state, copy / "model.safetensors")
    with pytest.raises(InputError) as raised:
        PretrainedModel.from_pretrained(copy)
    for name in (first, second, "(1, 2, 3)", "extra"):
        assert name in str(raised.value)


@pytest.mark.parametrize("source", ["/there/is/nothing", "./nothing", "nothing", "a/b/c"])
def test_a_place_that_is_no_directory_is_named(source):
    with pytest.raises(InputError, match="There is no model directory"):
        PretrainedModel.from_pretrained(source)


@dataclass(frozen=True)
class Point:
    x: int
    size: tuple[int, int] = (1, 1)


def test_configs_are_decoded_strictly():
    assert decode_config(Point, {"x": 1, "size": [2, 3]}) == Point(1, (2, 3))
    for wrong in ({"x": "1"}, {}):
        with pytest.raises(InputError, match="Point cannot be read"):
            decode_config(Point, wrong)
    with pytest.raises(InputError, match="Point has no y, z in this version of tris"):
        decode_config(Point, {"x": 1, "z": 2, "y": 2})
