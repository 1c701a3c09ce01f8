"""The worker's own words, and ``--log-std``: what tasks print goes to the log."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# The name under which django-background-tasks logs it; projects configure that.
logger = logging.getLogger("background_task.management.commands.process_tasks")


def speak() -> None:
    """Show what the worker says of itself where the project has not configured logging.

    Else nobody would hear that it has started, or what it waits for when it is told to end.
    """
    ours = logging.getLogger("bgtasks")
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        ours.addHandler(handler)
        ours.setLevel(logging.INFO)


class LogStream(io.TextIOBase):
    """A stream that logs each line.

    A handler that itself writes to the stream, as logging's handler of last resort does, gets
    the original: otherwise each line would log another, without end.
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
    """Redirect stdout and stderr to the log, if wanted, and back again."""
    before = sys.stdout, sys.stderr
    if wanted:
        sys.stdout = LogStream(logging.INFO, before[0])
        sys.stderr = LogStream(logging.ERROR, before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
