"""Pickles from the web, without running what they say.

RefCOCO, Ref-ZOM and D3 come as pickles, and a pickle may name any function to call. This reader
knows plain containers, text, numbers and NumPy's plain arrays, and builds the arrays itself:
no function that a file names is ever looked up.
"""

import codecs
import pickle
import re
from pathlib import Path
from typing import Any, Never

import numpy as np

from tris.errors import InputError, shorten

_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
)


def load_plain_pickle(path: Path) -> Any:  # noqa: ANN401 - what a file holds
    """Return what a pickle holds.

    Python 2's byte strings are read as Latin-1.

    Raises:
        InputError: If the file is missing or damaged, or names anything but dict, list, tuple,
            str, bytes, int, float, bool, None, NumPy scalars and arrays of plain numbers or text;
            what it named stands in the message, and nothing of it ran.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
            _refuse_other_types(content)
            return content
    except InputError as error:
        raise InputError(f"{path} is refused: {error}") from error
    except _BROKEN as error:
        raise InputError(f"{path} is a damaged pickle ({error}): fetch it again.") from error


def _refuse_other_types(content: object) -> None:
    """Look at everything, for the types that pickle makes without asking (set, bytearray)."""
    waiting: list[Any] = [content]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind in _LEAVES:
            continue
        if kind not in (dict, list, tuple):
            raise InputError(f"it holds a {kind.__name__}.")
        if id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value)
            waiting.extend(value.values() if isinstance(value, dict) else ())


class _PlainUnpickler(pickle.Unpickler):
    """Finds only the stand-ins below; each is inert."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's signature
        found = _STAND_INS.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise InputError(
                f"it holds {module[:80]}.{name[:80]}, and a data file needs only lists, numbers "
                "and text."
            )
        return found

    def persistent_load(self, pid: object) -> Never:
        raise InputError(f"it refers to something outside the file ({shorten(pid)}).")


class _Function:
    """A function that a pickle may call, but neither change nor give attributes."""

    __slots__ = ("__call",)

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - any of the functions below
        self.__call = call

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 - pickle's signature
        return self.__call(*arguments)

    def __setstate__(self, state: object) -> Never:
        raise InputError("it changes a function.")


class _PlainDtype:
    """Stands for ``numpy.dtype`` until its byte order is known; plain kinds only."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: object) -> None:  # noqa: ANN401 - text of the file
        if not isinstance(name, str) or not re.fullmatch(r"[biuf]\d{1,2}|[SU]\d{1,8}", name):
            raise InputError(
                f"it holds an array of {shorten(name)}, which is neither number nor text."
            )
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subtype, names, fields = state[1:5]
        if subtype is not None or names is not None or fields is not None:
            raise InputError("it holds an array of records.")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _PlainArray(np.ndarray):
    """Made by `_reconstruct`: fills itself from raw bytes of a plain dtype only."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _PlainDtype):
            raise InputError("it holds an array of objects.")
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        _shape_of(shape, dtype, raw)
        plain: Any = (1, shape, dtype.dtype, bool(is_fortran), bytes(raw))
        super().__setstate__(plain)


def _shape_of(shape: Any, dtype: _PlainDtype, raw: Any) -> None:  # noqa: ANN401 - of the file
    """Refuse a shape that the bytes do not fill."""
    is_shape = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    if not is_shape or not isinstance(raw, bytes | bytearray):
        raise InputError("it holds an array without shape or content.")
    count = 1
    for side in shape:
        count *= side
    if count * dtype.dtype.itemsize != len(raw):
        raise InputError(f"it holds an array of shape {shorten(shape)} in {len(raw)} bytes.")


def _reconstruct(kind: object, *_: object) -> np.ndarray:
    if kind is not _ARRAY:
        raise InputError(f"it holds an array of the class {shorten(kind)}.")
    return _PlainArray((0,), dtype=np.uint8)


def _frombuffer(raw: Any, dtype: object, shape: Any, order: object) -> np.ndarray:  # noqa: ANN401
    if not isinstance(dtype, _PlainDtype) or order not in ("C", "F"):
        raise InputError("it holds an array of objects.")
    _shape_of(shape, dtype, raw)
    array = np.frombuffer(raw, dtype.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: object, raw: Any) -> Any:  # noqa: ANN401 - a number or a text
    if not isinstance(dtype, _PlainDtype):
        raise InputError("it holds a scalar of objects.")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    _shape_of((1,), dtype, raw)
    return np.frombuffer(raw, dtype.dtype)[0].item()


def _encode(text: Any, encoding: object) -> bytes:  # noqa: ANN401 - of the file
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise InputError("it calls _codecs.encode for more than bytes.")
    return codecs.encode(text, "latin1")


def _bytes(*arguments: object) -> bytes:
    if arguments:
        raise InputError("it calls bytes for more than nothing.")
    return b""


_ARRAY = _Function(_reconstruct)
"""Stands for the class ``numpy.ndarray``; calling it is refused."""

_LEAVES = frozenset([str, int, float, bool, bytes, type(None), np.ndarray, _PlainArray])

_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Function(_PlainDtype),
    ("numpy", "ndarray"): _ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),
    ("numpy._core.numeric", "_frombuffer"): _Function(_frombuffer),
    ("_codecs", "encode"): _Function(_encode),
    ("__builtin__", "bytes"): _Function(_bytes),
    ("builtins", "bytes"): _Function(_bytes),
}
