import errno
import sys

import pytest

from tris import errors
from tris.errors import InputError, exits_cleanly


def failing(error):
    @exits_cleanly
    def main():
        raise error

    return main


def leave(error, capsys):
    with pytest.raises(SystemExit) as leaving:
        failing(error)()
    return leaving.value.code, capsys.readouterr().err


@pytest.fixture(autouse=True)
def plain_start(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.setattr(errors.signal, "signal", lambda *_: None)


def test_bad_input_is_one_sentence_and_exit_code_2(capsys):
    assert leave(InputError("That is wrong."), capsys) == (2, "error: That is wrong.\n")


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS], ids=errno.errorcode.get
)
def test_a_disk_that_does_not_take_it_is_one_sentence_that_names_the_file(capsys, number):
    code, text = leave(OSError(number, "Cannot", "a/file"), capsys)
    assert code == 2
    assert text.startswith("error: Cannot (a/file): ")
    assert text.count("\n") == 1


def test_other_operating_system_errors_keep_their_traceback():
    with pytest.raises(OSError, match="Strange"):
        failing(OSError(errno.EIO, "Strange"))()


def test_a_defect_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="shapes"):
        failing(RuntimeError("shapes"))()


def test_ctrl_c_leaves_with_130(capsys):
    assert leave(KeyboardInterrupt(), capsys) == (130, "Interrupted.\n")


def test_debug_shows_the_traceback_and_is_no_argument_of_the_stage(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stage", "--debug", "--run", "x"])
    with pytest.raises(InputError):
        failing(InputError("That is wrong."))()
    assert sys.argv == ["stage", "--run", "x"]


def test_the_value_of_a_good_end_is_none_and_nothing_is_printed(capsys):
    exits_cleanly(lambda: None)()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def among_others(monkeypatch):
    """A process of several; leaves by an exception that carries the code."""
    waits = []
    monkeypatch.setattr(errors.time, "sleep", waits.append)

    def leave_at_once(code):
        raise SystemExit(code)

    monkeypatch.setattr(errors.os, "_exit", leave_at_once)
    return waits


def test_the_first_process_speaks_at_once_and_the_others_wait(among_others, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    assert leave(InputError("Wrong."), capsys)[0] == 2
    assert among_others == []
    monkeypatch.setenv("RANK", "1")
    assert leave(InputError("Wrong."), capsys)[0] == 2
    assert among_others == [2.0]


def test_a_lost_neighbour_is_no_traceback(among_others, monkeypatch, capsys):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:3")
    monkeypatch.setenv("RANK", "0")
    assert leave(lost, capsys) == (1, "error: Another process of this stage has stopped.\n")


def test_alone_the_same_words_are_a_defect():
    with pytest.raises(RuntimeError):
        failing(RuntimeError("Connection closed by peer"))()


@pytest.mark.parametrize(
    "number",
    [errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG],
    ids=errno.errorcode.get,
)
def test_an_impossible_path_is_one_sentence_that_names_it(capsys, number):
    code, text = leave(OSError(number, "Cannot", "a/file"), capsys)
    assert code == 2
    assert text.startswith("error: Cannot (a/file): ")


def test_a_foreign_value_is_shown_short_however_deep_or_wide_it_is():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "a" * 10**6, 10**3000, [[1] * 1000] * 1000, {"a": "b" * 1000}):
        assert len(errors.shorten(value)) <= 80
    assert errors.shorten({"a": [1, None]}) == "{'a': [1, None]}"
