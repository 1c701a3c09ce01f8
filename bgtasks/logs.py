"""The log of the worker, and ``--log-std``, which sends what tasks print to the log."""

from __future__ import annotations

import io
import logging
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler
from typing import TextIO

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
