"""What the libraries raise that read pretrained weights."""

import pickle

from safetensors import SafetensorError

LOAD_ERRORS = (
    OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
"""Without a connection, on files that are no weights or end too early, and on others' weights."""


def reason_of(error: BaseException) -> str:
    """Return the first line of what a library says, as part of a sentence."""
    return str(error).partition("\n")[0].rstrip(":. ") or "the file ends too early"
