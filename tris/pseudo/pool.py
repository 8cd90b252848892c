"""Labels in parallel: the CRF holds Python's lock, so it takes processes, not threads."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np

from tris.errors import InputError
from tris.pseudo.contest import Contest
from tris.pseudo.label import LabelConfig, PseudoLabel
from tris.pseudo.label_image import label_image

TASKS_IN_FLIGHT = 8
"""Per worker: enough to keep it busy while the network works, few enough to bound memory."""


class ImageTask(NamedTuple):
    """One image whose referents are labelled together.

    Attributes:
        key: Comes back with the labels; it does not travel to the worker.
        response_logits: One map per referent, referents h w, before any activation.
        image: The photograph, uint8, height width 3.
        contests: Who competes with whom; only referents that they label come back.
    """

    key: Any
    response_logits: np.ndarray
    image: np.ndarray
    contests: tuple[Contest, ...]


class LabelPool:
    """Worker processes that refine labels; a context manager.

    Args:
        config: The label rule.
        num_workers: Processes; 0 labels in this one.

    Raises:
        InputError: If ``num_workers`` is negative.
    """

    def __init__(self, config: LabelConfig, num_workers: int) -> None:
        if num_workers < 0:
            raise InputError(f"The number of label workers cannot be negative ({num_workers}).")
        self.config = config
        self.num_workers = num_workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "LabelPool":
        """Start the workers."""
        if self.num_workers:
            self._executor = ProcessPoolExecutor(
                self.num_workers,
                mp_context=multiprocessing.get_context("forkserver"),
                initializer=_prepare_worker,
            )
            with _without_main_module():
                started = [self._executor.submit(_do_nothing) for _ in range(self.num_workers)]
                for future in started:
                    future.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the workers; what they have not begun is given up."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def refine_images(
        self, tasks: Iterable[ImageTask]
    ) -> Iterator[tuple[Any, dict[int, PseudoLabel]]]:
        """Yield the labels of whole images, by the referents' places, in the order of their tasks.

        Only a little is read ahead.

        Raises:
            InputError: If a worker died (most often for want of memory).
        """
        if self._executor is None:
            for task in tasks:
                yield task.key, label_image(*self._arguments(task))
            return
        pending: deque[tuple[Any, Future[dict[int, PseudoLabel]]]] = deque()
        try:
            for task in tasks:
                if len(pending) >= TASKS_IN_FLIGHT * self.num_workers:
                    yield _finish(pending)
                labels = self._executor.submit(label_image, *self._arguments(task))
                pending.append((task.key, labels))
            while pending:
                yield _finish(pending)
        except BrokenProcessPool as error:
            raise InputError(
                "A label worker died, most likely for want of memory; run again (finished labels "
                "are kept) with fewer workers."
            ) from error

    def _arguments(
        self, task: ImageTask
    ) -> tuple[np.ndarray, np.ndarray, tuple[Contest, ...], LabelConfig]:
        """Return what `label_image` is called with; the key stays here."""
        return task.response_logits, task.image, task.contests, self.config


def _finish(
    pending: deque[tuple[Any, Future[dict[int, PseudoLabel]]]],
) -> tuple[Any, dict[int, PseudoLabel]]:
    key, future = pending.popleft()
    return key, future.result()


def _prepare_worker() -> None:
    # Ctrl-C is the parent's business; and one worker is one thread.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when the process that started it is gone, killed for instance."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_nothing() -> None:
    pass


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide the script that runs, so that workers do not import it (and torch) over again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
