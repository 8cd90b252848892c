"""The one way in which bad input reaches a person: a sentence and exit code 2."""

import errno
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class InputError(ValueError):
    """Something a person gave cannot be used.

    The message is one sentence: what came, what was wanted, what to do.
    """


def exits_cleanly(main: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Turn an `InputError` or a full disk inside ``main`` into one sentence and exit code 2.

    ``--debug`` anywhere on the command line lets the traceback through. Ctrl-C exits with 130.
    """

    @functools.wraps(main)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        is_debugging = "--debug" in sys.argv
        if is_debugging:
            sys.argv.remove("--debug")
        try:
            main(*args, **kwargs)
        except InputError as error:
            if is_debugging:
                raise
            _leave(str(error), exit_code=2)
        except OSError as error:
            if is_debugging or error.errno not in _PLAIN_ERRORS:
                raise
            where = f" ({error.filename})" if error.filename else ""
            _leave(f"{error.strerror}{where}: {_PLAIN_ERRORS[error.errno]}", exit_code=2)
        except KeyboardInterrupt:
            if is_debugging:
                raise
            _leave("Interrupted.", exit_code=130)

    return wrapped


_PLAIN_ERRORS = {
    errno.ENOSPC: "free some space or choose another output folder; finished files are whole.",
    errno.EDQUOT: "the quota is used up; finished files are whole.",
    errno.EACCES: "choose a place that you may read and write.",
    errno.EROFS: "choose an output folder that can be written.",
}


def _leave(message: str, *, exit_code: int) -> None:
    rank = int(os.environ.get("RANK", "0"))
    if rank:
        # All processes mostly fail alike: give the first one time to speak for all of them.
        time.sleep(2.0)
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n" if exit_code == 2 else f"{message}\n")
    sys.stderr.flush()
    if "RANK" in os.environ:
        # The others may wait in a collective; a clean shutdown would wait for them.
        os._exit(exit_code)
    raise SystemExit(exit_code)
