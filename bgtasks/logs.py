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
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import Any, TextIO

# What ends a line, hides what follows, or shows it in another order: control characters,
# separators, marks of direction. A text with half of a surrogate pair could not be written at all.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


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
    if isinstance(value, int | float):
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


def show_worker_log() -> None:
    """Show the worker's log on stderr, from INFO on, if the project has not configured logging.

    Otherwise nobody would see that it has started, or what it waits for when it is stopped.
    """
    worker_log = logging.getLogger("bgtasks")
    if not worker_log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        worker_log.addHandler(handler)
        worker_log.setLevel(logging.INFO)


def show_what_no_listener_logs() -> None:
    """After a fork: show our log on stderr too, if it goes into a queue that no thread reads here.

    A `QueueHandler` puts records into a queue, and a thread of its `QueueListener` takes them out.
    That thread runs in the parent only.
    """
    names = ("bgtasks", "background_task")
    queued = [name for name in names if any(map(_fills_a_queue, _handlers(name)))]
    for name in queued:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger(name).addHandler(handler)
    if queued:
        logging.getLogger("bgtasks").warning(
            "The project logs by a QueueHandler, whose listener does not run in this process "
            "(%d): no thread survives a fork. What tasks log here is lost; what bgtasks logs is on "
            "stderr. Start a listener when bgtasks.signals.worker_started is sent.",
            os.getpid(),
        )


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
