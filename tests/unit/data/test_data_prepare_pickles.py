import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tris.data.prepare.pickles import load_plain_pickle
from tris.errors import InputError, shorten


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "refs.p"


@pytest.mark.parametrize("protocol", range(6))
def test_plain_containers_and_numbers_are_read_in_every_protocol(path: Path, protocol: int):
    content = {"a": [1, 2.5, True, None, b"xy\xff", "é🐈"], "b": (1, (2,)), 3: {"c": []}, "d": b""}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert load_plain_pickle(path) == content


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.array([[2, 1, 3, 2]]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1, 2], dtype=">i4"),
        np.array([True, False]),
        np.array(["ab", "c"]),
        np.zeros((0, 4), np.float32),
    ],
    ids=["int", "fortran", "big-endian", "bool", "text", "empty"],
)
def test_plain_arrays_are_read_in_every_protocol(path: Path, protocol: int, array: np.ndarray):
    path.write_bytes(pickle.dumps({"bbox": array}, protocol=protocol))
    read = np.asarray(load_plain_pickle(path)["bbox"])
    assert (read.dtype.kind, read.dtype.itemsize) == (array.dtype.kind, array.dtype.itemsize)
    assert read.tolist() == array.tolist()


@pytest.mark.parametrize("scalar", [np.float32(2.5), np.int64(7), np.bool_(True)])
def test_numpy_scalars_become_plain_numbers(path: Path, scalar: np.generic):
    path.write_bytes(pickle.dumps([scalar]))
    assert load_plain_pickle(path) == [scalar.item()]


def test_python_twos_byte_strings_are_text(path: Path):
    path.write_bytes(b"(lp0\nS'caf\\xe9'\np1\na.")
    assert load_plain_pickle(path) == ["café"]


class Hostile:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command_is_refused_and_nothing_runs(path: Path, protocol: int):
    proof = path.with_name("proof")
    path.write_bytes(pickle.dumps([Hostile(os.system, f"touch {proof}")], protocol=protocol))
    with pytest.raises(InputError, match=r"refused: it holds \w+\.system"):
        load_plain_pickle(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Hostile(eval, "1"), "builtins.eval"),
        (Hostile(getattr, "a", "upper"), "builtins.getattr"),
        (Path("x"), "pathlib"),
        (complex(1, 2), "builtins.complex"),
        (np.array([Hostile(eval, "1")], dtype=object), "neither number nor text"),
        (np.zeros(2, dtype=[("a", int)]), "neither number nor text"),
        ({1, 2}, "a set"),
        ([frozenset([1])], "a frozenset"),
        ({"a": (bytearray(b"x"),)}, "a bytearray|builtins.bytearray"),
    ],
)
def test_anything_else_is_refused_by_name(path: Path, content: object, named: str):
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=named):
        load_plain_pickle(path)


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n(I100000\ntR.",
        b"cnumpy\nndarray\n}S'shape'\nI1\nsb.",
        b"cnumpy\ndtype\n}S'a'\nI1\nsb.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"Pelsewhere\n.",
    ],
)
def test_numpys_own_names_cannot_be_turned_against_it(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_plain_pickle(path)


def test_an_array_whose_bytes_do_not_fill_its_shape_is_refused(path: Path):
    whole = pickle.dumps(np.zeros(100, np.uint8), protocol=2)
    assert whole.count(b"Kd\x85") == 1
    path.write_bytes(whole.replace(b"Kd\x85", b"K\xff\x85"))
    with pytest.raises(InputError, match="shape"):
        load_plain_pickle(path)


@pytest.mark.parametrize("content", [b"", b"\x80", b"hello", b"\x80\x04\x95\xff"])
def test_a_damaged_pickle_is_named(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"refs\.p is a damaged pickle"):
        load_plain_pickle(path)


def test_a_missing_pickle_is_named(path: Path):
    with pytest.raises(InputError, match=r"refs\.p is missing"):
        load_plain_pickle(path)


@pytest.mark.parametrize("kind", ["i4,f4", "i4,O", "i", "f4, f4", "(2,)i4", "U999999999999"])
def test_a_dtype_that_is_no_plain_kind_and_width_is_refused(path: Path, kind: str):
    name = bytes([0x8C, len(kind)]) + kind.encode()
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93" + name + b"\x85R.")
    with pytest.raises(InputError, match="neither number nor text"):
        load_plain_pickle(path)


def test_a_small_pickle_of_endless_text_makes_a_short_message(path: Path):
    nested: list[object] = ["x"]
    for _ in range(60):
        nested = [nested] * 10
    path.write_bytes(pickle.dumps(nested))
    assert len(shorten(load_plain_pickle(path))) <= 80
