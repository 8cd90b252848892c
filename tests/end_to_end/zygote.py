"""Starts stages for tests: everything is imported once, then each process is a fork of this one.

Reads one JSON object per line and answers each with one: ``{"script", "argv", "env", "log"}``
starts a process and gives its ``pid``; ``{"wait": pid}`` gives its exit ``code``, negative for a
signal. An
empty value takes a variable away.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = (
    "pretrain_clip", "train_response", "make_pseudo_labels", "train_segmenter", "relabel",
    "self_train", "evaluate",
)  # fmt: skip


def start(order):
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.environ.update(order["env"])
    for name in [name for name, value in order["env"].items() if not value]:
        del os.environ[name]
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [order["script"], *order["argv"]]
    code = 1
    try:
        runpy.run_path(order["script"], run_name="__main__")
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - whatever a stage lets through, as Python prints it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main():
    sys.path.insert(0, str(REPOSITORY))
    for stage in STAGES:
        runpy.run_path(str(REPOSITORY / "stages" / f"{stage}.py"), run_name="imported")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            answer = {"pid": start(order)}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
