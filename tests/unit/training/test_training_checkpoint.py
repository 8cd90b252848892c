import pickle
from pathlib import Path

import pytest
import torch

from tris.errors import InputError
from tris.training.checkpoint import (
    CheckpointStore,
    read_progress,
    read_tensors,
    write_tensors,
)


def save(store, step):
    write_tensors({"step": torch.tensor(step)}, store.begin(step) / "shared.pt")
    return store.finish(step, {"step": step})


def names(store):
    return [path.name for path in store.list()]


def test_the_newest_few_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for step in (9, 10, 100):
        save(store, step)
    assert names(store) == ["step-00000010", "step-00000100"]
    assert store.latest() == tmp_path / "checkpoints" / "step-00000100"


def test_there_is_none_before_the_first(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    assert store.list() == []
    assert store.latest() is None


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1, not 0"):
        CheckpointStore(tmp_path, keep=0)


def test_a_begun_one_is_not_listed_until_it_is_finished(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    write_tensors({}, store.begin(2) / "shared.pt")
    assert names(store) == ["step-00000001"]


def test_sweeping_removes_torn_ones_alone(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    torn = store.begin(2)
    store.sweep()
    assert not torn.exists()
    assert names(store) == ["step-00000001"]


def test_sweeping_puts_back_one_that_was_being_replaced(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    grave = tmp_path / ".step-00000001-old-abcdefgh"
    grave.mkdir()
    save(store, 1).rename(grave / "old")
    store.sweep()
    assert read_progress(store.latest())["step"] == 1
    assert not grave.exists()


def test_saving_a_step_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    store.begin(1)
    assert read_progress(store.finish(1, {"step": 1, "again": True}))["again"]


def test_clearing_leaves_nothing(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    save(store, 1)
    store.begin(2)
    store.clear()
    assert not (tmp_path / "checkpoints").exists()


def test_tensors_and_containers_come_back_exactly(tmp_path):
    state = {"a": torch.randn(3), "b": [1, 2.5, None, "x", (3,)]}
    write_tensors(state, tmp_path / "state.pt")
    back = read_tensors(tmp_path / "state.pt")
    assert torch.equal(back["a"], state["a"])
    assert back["b"] == state["b"]


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil-was-here"),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(InputError, match="cannot be read"):
        read_tensors(tmp_path / "state.pt")
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize("length", [0, 10, 300])
def test_a_cut_off_file_is_named(tmp_path, length):
    path = tmp_path / "state.pt"
    write_tensors({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"state\.pt"):
        read_tensors(path)


def test_a_checkpoint_without_progress_is_named(tmp_path):
    with pytest.raises(InputError, match="damaged"):
        read_progress(tmp_path)


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(tmp_path, monkeypatch):
    def fail(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(InputError, match="MB are free"):
        write_tensors({}, tmp_path / "state.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"state\.pt cannot be written .*directory.*MB are free"):
        write_tensors({}, tmp_path / "checkpoints" / ".step-00000001.part" / "state.pt")
