"""When to enqueue, and how much: three ways, of which the harness chooses one.

Each yields a number of jobs at the moment at which they are to be inserted.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator

LOOK = 0.2  # seconds in which a way notices that it is to stop


def by_tokens(descriptor: int, rate: Callable[[], float], stop: threading.Event) -> Iterator[int]:
    """As many as the harness says, by lines ``ENQUEUE n``, until it closes the pipe.

    Lines that come while the rate is 0 are dropped.
    """
    rest = b""
    while not stop.is_set():
        if not select.select([descriptor], [], [], LOOK)[0]:
            continue
        if not (chunk := os.read(descriptor, 1 << 16)):
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for jobs in map(_jobs, lines):
            if jobs and rate() > 0:
                yield jobs


def _jobs(line: bytes) -> int:
    """The number of a token; 0 for any other line."""
    word, _, number = line.strip().partition(b" ")
    return int(number) if word == b"ENQUEUE" and number.isdigit() else 0


def by_clock(
    rate: Callable[[], float], period: float, most: int, stop: threading.Event
) -> Iterator[int]:
    """A rate, by a clock of our own; see `Credit`."""
    credit = Credit(time.monotonic())
    while not stop.wait(max(0.0, period - (time.monotonic() - credit.at))):
        if jobs := credit.spend(rate(), time.monotonic(), most):
            yield jobs


class Credit:
    """How many jobs a rate has earned, by the time that has really passed.

    So a slow insertion is made up for. While the rate is 0 nothing is saved up.

    Attributes:
        at: when it was counted last, in seconds.
    """

    def __init__(self, now: float) -> None:
        self.at = now
        self._jobs = 0.0

    def spend(self, rate: float, now: float, most: int) -> int:
        """The whole jobs that there are now, which are gone then."""
        self._jobs = self._jobs + rate * (now - self.at) if rate > 0 else 0.0
        self.at = now
        jobs = min(int(self._jobs), most)
        self._jobs -= jobs
        return jobs


def by_depth(
    waiting: Callable[[], int | None], depth: int, period: float, most: int, stop: threading.Event
) -> Iterator[int]:
    """As many as are missing in the queue.

    Args:
        waiting: how many jobs wait at this moment; None if that cannot be said.
    """
    while not stop.wait(period):
        now = waiting()
        if now is not None and now < depth:
            yield min(depth - now, most)
