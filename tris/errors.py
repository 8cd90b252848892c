"""The one way in which bad input reaches a person: a sentence and exit code 2."""

import errno
import functools
import os
import reprlib
import signal
import sys
import time
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")
MAX_SHOWN = 80
"""Characters of a foreign value that a message shows."""


class InputError(ValueError):
    """Something a person gave cannot be used.

    The message is one sentence: what came, what was wanted, what to do.
    """


def shorten(value: object) -> str:
    """Return a foreign value as a message may show it: short, however large or nested it is.

    A few bytes of a pickle can stand for lists whose ``repr`` would fill the memory.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says, to stand in a sentence; else its kind."""
    return str(error).partition("\n")[0].rstrip(":. ") or type(error).__name__


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = MAX_SHOWN + 20


def exits_cleanly(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn an `InputError`, a full disk or an impossible path into one sentence and exit code 2.

    ``--debug`` anywhere on the command line lets the traceback through. Ctrl-C exits with 130.
    """

    @functools.wraps(main)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        is_debugging = "--debug" in sys.argv
        if is_debugging:
            sys.argv.remove("--debug")
        try:
            main(*args, **kwargs)
        except (InputError, OSError, RuntimeError, KeyboardInterrupt) as error:
            sentence, exit_code = _explain(error)
            if is_debugging or not exit_code:
                raise
            _leave(sentence, exit_code=exit_code)

    return wrapped


_PLAIN_ERRORS = {
    errno.ENOSPC: "free some space or choose another output folder; finished files are whole.",
    errno.EDQUOT: "the quota is used up; finished files are whole.",
    errno.EACCES: "choose a place that you may read and write.",
    errno.EPERM: "choose a place that you may read and write.",
    errno.EROFS: "choose an output folder that can be written.",
    errno.ENOENT: "give a path that exists.",
    errno.ENOTDIR: "a folder was wanted where a file lies; choose another path.",
    errno.EEXIST: "a folder was wanted where a file lies; choose another path.",
    errno.EISDIR: "a file was wanted where a folder lies; choose another path.",
    errno.ENAMETOOLONG: "choose a shorter path.",
    errno.ELOOP: "the link leads to itself; choose another path.",
}


def _explain(error: BaseException) -> tuple[str, int]:
    """Return what a person is told and the exit code, 0 for what only a traceback explains."""
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", 130
    if isinstance(error, OSError) and error.errno in _PLAIN_ERRORS:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}: {_PLAIN_ERRORS[error.errno]}", 2
    if "RANK" in os.environ and any(sign in str(error) for sign in _LOST):
        return "Another process of this stage has stopped.", 1
    return "", 0


_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def _leave(message: str, *, exit_code: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if int(os.environ.get("RANK", "0")) or exit_code == 1:
        # All processes mostly fail alike: give the first one time to speak for all of them.
        time.sleep(2.0)
    sys.stdout.flush()
    sys.stderr.write(f"{message}\n" if exit_code == 130 else f"error: {message}\n")
    sys.stderr.flush()
    if "RANK" in os.environ:
        # The others may wait in a collective; a clean shutdown would wait for them.
        os._exit(exit_code)
    raise SystemExit(exit_code)
