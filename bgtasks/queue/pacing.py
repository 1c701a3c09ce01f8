"""Pauses between a worker's writes on SQLite, which has one write lock for all connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgtasks.clock import elapsed
from bgtasks.queue import database as db

# On SQLite, the seconds between a worker's writes, and the seconds that one write should take.
# A connection that waits for the write lock does not queue for it: it tries again 1, 3, 8 and 18
# milliseconds after the first attempt (`sqliteDefaultBusyCallback` in SQLite's main.c). With these
# values one of the first three of those tries falls into a pause, whenever the first attempt was.
# With writes of 6 and pauses of 3 milliseconds, two ninths of all waits would miss all three.
PAUSE = 0.005
WRITE = 0.008
# The most rows in one write, and the fewest to which a slow database reduces it.
MOST, FEWEST = 1000, 20
# The weight of the latest write in the exponential moving average of the seconds for one row.
LATEST_WRITE = 0.2


class Pace:
    """How many rows a worker writes in one transaction, and when it may write again."""

    def __init__(self) -> None:
        self._cost = WRITE / 100
        self._wrote_at = 0.0

    @property
    def most(self) -> int:
        """The most rows to write at once."""
        if db.on_postgresql():
            return MOST
        return max(FEWEST, min(MOST, int(WRITE / self._cost)))

    @contextmanager
    def writing(self) -> Iterator[Callable[[int], None]]:
        """The context of a write. On SQLite it begins with a pause if the last write was just now.

        Yields:
            A function to call with the number of rows, when they are written.
        """
        if db.on_postgresql():
            yield lambda _: None
            return
        time.sleep(max(0.0, self._wrote_at + PAUSE - elapsed()))
        began = elapsed()

        def learn(rows: int) -> None:
            if rows >= FEWEST:  # if they are few, most of the time is that of the commit
                cost = (elapsed() - began) / rows
                self._cost = self._cost * (1 - LATEST_WRITE) + cost * LATEST_WRITE

        try:
            yield learn
        finally:
            self._wrote_at = elapsed()


class Turns:
    """Lets one thread of this process write at a time, on SQLite.

    Turns follow each other without a pause until they have taken about `WRITE` seconds together.
    Then the next one waits for `PAUSE` seconds, in which other processes get the write lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = self._ended = 0.0

    @contextmanager
    def turn(self, patience: float) -> Iterator[bool]:
        """The context of a write, in which no other thread of this process has its turn.

        Args:
            patience: seconds to wait for the turns of others.

        Yields:
            Whether this thread has its turn; False: others took longer.
        """
        if not self._lock.acquire(timeout=patience):
            yield False
            return
        try:
            self._pause()
            yield True
        finally:
            self._ended = elapsed()
            self._lock.release()

    def _pause(self) -> None:
        since = elapsed() - self._ended
        if since < PAUSE and self._ended - self._began < WRITE:
            return
        time.sleep(max(0.0, PAUSE - since))
        self._began = elapsed()
