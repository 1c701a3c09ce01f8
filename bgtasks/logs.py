"""The log of the worker, and ``--log-std``, which sends what tasks print to the log."""

from __future__ import annotations

import io
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from logging.handlers import QueueHandler
from typing import Any, TextIO

from bgtasks.clock import elapsed

# What ends a line, hides what follows, or shows it in another order: control characters,
# separators, marks of direction. A text with half of a surrogate pair could not be written at all.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# A tuple, because `int | float` would be made anew for each argument of each record.
_NUMBERS = (int, float)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module of bgtasks: each of its records is one line, but for a traceback.

    Names of rows, workers and hosts come from tables, where anybody who calls a task may have
    written. A line break in them would forge a line of the log.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_in_one_line)  # a filter that is there already is not added again
    return logger


def _in_one_line(record: logging.LogRecord) -> bool:
    """Escape what is unshowable in a record's arguments, or in its text if it has none."""
    if isinstance(record.args, tuple) and record.args:
        record.args = tuple(map(_escaped, record.args))
    elif not record.args:
        record.msg = _escaped(record.msg)
    return True


def _escaped(value: Any) -> Any:
    if isinstance(value, _NUMBERS):
        return value
    try:
        text = str(value)
    except Exception:  # logging reports this when it makes the text of the record
        return value
    if not _UNSHOWABLE.search(text):
        return value
    return _UNSHOWABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


# These two are used for what bgtasks says in the place of upstream.
for _name in ("background_task.tasks", "background_task.models"):
    get_logger(_name)

# The logger for what tasks print has upstream's name, because projects have configured that.
logger = logging.getLogger("background_task.management.commands.process_tasks")


# The loggers of bgtasks, and of what bgtasks says in the place of upstream.
NAMES = ("bgtasks", "background_task")


def show_worker_log() -> None:
    """Show on stderr, from INFO on, what the project's logging would show nowhere.

    Otherwise nobody would see that the worker has started, what became of tasks, or what it waits
    for when it is stopped.
    """
    for name in NAMES:
        shown = logging.getLogger(name)
        if not shown.hasHandlers():
            shown.addHandler(_on_stderr())
            if shown.level == logging.NOTSET:
                shown.setLevel(logging.INFO)


def _on_stderr() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def show_what_no_listener_logs() -> None:
    """After a fork: show our log on stderr too, if it goes into a queue that no thread reads here.

    A `QueueHandler` puts records into a queue, and a thread of its `QueueListener` takes them out.
    That thread runs in the parent only.
    """
    queued = [name for name in NAMES if any(map(_fills_a_queue, _handlers(name)))]
    for name in queued:
        logging.getLogger(name).addHandler(_on_stderr())
    if queued:
        logging.getLogger("bgtasks").warning(
            "The project logs by a QueueHandler, whose listener does not run in this process "
            "(%d): no thread survives a fork. What tasks log here is lost; what bgtasks logs is on "
            "stderr. Start a listener when bgtasks.signals.worker_started is sent.",
            os.getpid(),
        )


# Seconds to wait for a thread that writes a record, and at the end of a process for all of it.
PATIENCE = 3.0


@contextmanager
def no_record_half_written() -> Iterator[None]:
    """Fork in this context, so that no other thread is in the middle of writing a log record.

    A stream has a lock of its own, which Python does not free in a child. If a thread of the parent
    held it, whoever writes to that stream in the child, or flushes it, would wait for ever. The
    locks of the handlers, which logging does free in a child, are around it.
    """
    pid, until = os.getpid(), elapsed() + PATIENCE
    with ExitStack() as held:
        for lock in _locks():
            # For threads that hang in handlers, it waits for `PATIENCE` in all, and then forks. And
            # a handler of the project's own may have a lock that cannot be waited for like this.
            with suppress(TypeError):
                if lock.acquire(timeout=max(0.0, until - elapsed())):
                    held.callback(lock.release)
        try:
            yield
        finally:
            if os.getpid() != pid:
                held.pop_all()  # logging has made them anew in the child


def _locks() -> Iterator[Any]:
    """The lock of logging itself, which `os.fork` takes too, and then those of all handlers."""
    yield logging._lock  # type: ignore[attr-defined]
    for reference in logging._handlerList[:]:  # type: ignore[attr-defined]
        if (handler := reference()) and handler.lock:
            yield handler.lock


def write_the_rest() -> None:
    """Write what handlers and streams still keep, at the end of a process that was forked.

    If one of them cannot be written to, it is given up after `PATIENCE`: it may have a lock that a
    thread of the parent held, or write to a host that does not answer.
    """
    thread = threading.Thread(target=_write_the_rest, name="bgtasks-log", daemon=True)
    thread.start()
    thread.join(PATIENCE)


def _write_the_rest() -> None:
    flush_output()
    for reference in reversed(logging._handlerList[:]):  # type: ignore[attr-defined]
        # One stream that is broken keeps no other from being written. Python may also say that a
        # call is reentrant, if this thread has the number of the one that held a stream's lock.
        with suppress(Exception):
            logging.shutdown([reference])


def flush_output() -> None:
    """Empty the buffers of stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed or None, and whoever reads it may be gone.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _handlers(name: str) -> Iterator[logging.Handler]:
    """All handlers that get the records of a logger."""
    found: logging.Logger | None = logging.getLogger(name)
    while found:
        yield from found.handlers
        found = found.parent if found.propagate else None


def _fills_a_queue(handler: logging.Handler) -> bool:
    """Whether a handler puts records into a queue of this process; one of others is read there."""
    queues = (queue.Queue, queue.SimpleQueue)
    return isinstance(handler, QueueHandler) and isinstance(handler.queue, queues)


class LogStream(io.TextIOBase):
    """A stream that logs each line that is written to it.

    A logging handler may itself write to this stream, as logging's handler of last resort does.
    What it writes goes to the original stream: to log it would call the handler again, without end.

    Args:
        level: the level of the lines in the log.
        original: the stream that this one replaces.
    """

    def __init__(self, level: int, original: TextIO) -> None:
        self._level = level
        self._original = original
        self._here = threading.local()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if getattr(self._here, "busy", False):
            return self._original.write(text)
        lines = (getattr(self._here, "rest", "") + text).split("\n")
        self._here.rest = lines.pop()
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        rest, self._here.rest = getattr(self._here, "rest", ""), ""
        self._log(rest)

    def _log(self, line: str) -> None:
        if not line.strip():
            return
        self._here.busy = True
        try:
            logger.log(self._level, "%s", line)
        finally:
            self._here.busy = False


@contextmanager
def std_to_log(wanted: bool) -> Iterator[None]:
    """Send stdout and stderr to the log within this context, if that is wanted."""
    before = sys.stdout, sys.stderr
    if wanted:
        sys.stdout = LogStream(logging.INFO, before[0])
        sys.stderr = LogStream(logging.ERROR, before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
