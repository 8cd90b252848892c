import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tris.files import replace_directory, replace_file, sweep_leftovers


def make(folder, content):
    folder.mkdir(parents=True)
    (folder / content).touch()
    return folder


def found(folder):
    """Every file, by its path."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    for text in ("old\n", "é\n"):
        replace_file(path, text)
        assert path.read_bytes() == text.encode()

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        replace_file(path, "new")
    assert path.read_text() == "é\n"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    texts = {letter * 10_000 for letter in "ab"}
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def write_often(text):
        for _ in range(300):
            replace_file(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_often, texts))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_replaced_file_may_be_read_by_whom_any_other_may(tmp_path):
    replace_file(tmp_path / "replaced", "")
    (tmp_path / "plain").touch()
    assert (tmp_path / "replaced").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_directory_is_replaced_whole_and_no_graveyard_is_left(tmp_path):
    make(tmp_path / "target", "old")
    replace_directory(make(tmp_path / "new", "new"), tmp_path / "target")
    assert found(tmp_path) == ["target/new"]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_old_directory_is_deleted_only_when_the_new_one_is_in_its_place(tmp_path, monkeypatch):
    make(tmp_path / "target", "old")
    seen = []
    remove = shutil.rmtree

    def look_and_remove(path):
        seen.append(found(tmp_path / "target"))
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", look_and_remove)
    replace_directory(make(tmp_path / "new", "new"), tmp_path / "target")
    assert seen == [["new"]]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_what_cannot_be_replaced_is_put_back(tmp_path, monkeypatch, error):
    target, new = make(tmp_path / "target", "old"), make(tmp_path / "new", "new")
    rename = Path.rename

    def fail_once_the_place_is_free(path, to):
        if path == new and not target.exists():
            raise error
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail_once_the_place_is_free)
    with pytest.raises(type(error)):
        replace_directory(new, target)
    assert found(tmp_path) == ["new/new", "target/old"]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_put_back_is_kept_in_its_grave(tmp_path, monkeypatch):
    target, new = make(tmp_path / "target", "old"), make(tmp_path / "new", "new")
    rename = Path.rename

    def fail_once_the_place_is_free(path, to):
        if to == target and not target.exists():
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail_once_the_place_is_free)
    with pytest.raises(OSError, match="Input/output error"):
        replace_directory(new, target)
    (grave,) = tmp_path.glob(".target-old-*")
    assert found(grave) == ["old/old"]
    assert found(new) == ["new"]
    monkeypatch.undo()
    sweep_leftovers(tmp_path, "target")
    assert found(tmp_path) == ["new/new", "target/old"]


def test_an_old_directory_without_a_successor_is_put_back(tmp_path):
    make(tmp_path / ".best_iou-old-abcdefgh" / "old", "only")
    make(tmp_path / ".best_iou-12345678", "half")
    sweep_leftovers(tmp_path, "best_*")
    assert found(tmp_path) == ["best_iou/only"]
    assert len(list(tmp_path.iterdir())) == 1


def test_leftovers_of_other_names_and_whole_directories_stay(tmp_path):
    make(tmp_path / "model", "new")
    make(tmp_path / ".model-old-abcdefgh" / "old", "old")
    (tmp_path / ".model-old-12345678").mkdir()
    make(tmp_path / ".other-12345678", "half")
    make(tmp_path / ".other-old-12345678" / "old", "old")
    sweep_leftovers(tmp_path, "model")
    assert found(tmp_path) == [".other-12345678/half", ".other-old-12345678/old/old", "model/new"]
    assert len(list(tmp_path.iterdir())) == 3
