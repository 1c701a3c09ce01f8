"""Copies of this process that tasks fork: they run no rows, and nothing of the worker is theirs.

A task may fork by `os.fork`, by `multiprocessing`, or by a pool of processes. The copy begins with
all that its worker has in memory: the rows that it has claimed, its signal handlers, its locks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from bgtasks.logs import get_logger

logger = get_logger(__name__)

# How many forks lie between the first process and this one. To compare it takes a fifth of the time
# of asking the system for the id of this process.
generation = 0
_abandon: list[Callable[[], None]] = []
_here = threading.local()  # while this thread forks: which signals it had blocked before


@contextmanager
def abandoning(*callbacks: Callable[[], None]) -> Iterator[None]:
    """Within this context, have each copy of this process call these functions first of all.

    In a copy, the thread that has forked is the main thread, and the only one.
    """
    _abandon.extend(callbacks)
    try:
        yield
    finally:
        for callback in callbacks:
            with suppress(ValueError):  # in a copy, the list is empty
                _abandon.remove(callback)


def _before() -> None:
    """Block all signals: one that reached a copy before it has its own handlers would be lost."""
    if _abandon:
        _here.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _in_parent() -> None:
    if (mask := _here.__dict__.pop("mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_copy() -> None:
    global generation
    generation += 1
    callbacks = list(_abandon)
    _abandon.clear()
    try:
        for callback in callbacks:
            callback()
    finally:
        _in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_copy)


def end_copy(task: str) -> NoReturn:
    """End this process, which is a copy that has come back from a task's function.

    Its worker runs the task on, and records what comes of it. If the copy went on, it would run and
    record the rows of its worker once more. If an exception is being handled, the status is the one
    that the interpreter would exit with.

    Args:
        task: the task's row, for the log.
    """
    error = sys.exception()
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        status = error.code or 0
    else:
        status = int(error is not None)
    logger.error(
        "Task %s has forked its worker's process. The copy (process %d) came back from the task "
        "and ends here. End such a copy with os._exit().",
        task,
        os.getpid(),
        exc_info=error if status and not isinstance(error, SystemExit) else None,
    )
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
