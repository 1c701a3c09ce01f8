"""Room for others between our writes, where a database has one write lock for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgtasks.clock import elapsed
from bgtasks.queue import database as db

# On SQLite, seconds between our writes, and the seconds that one should take. Others who wait for
# the lock do not queue for it, they look after 1, 3, 8 and 18 milliseconds whether it is free. In
# this rhythm one of the first three looks falls into a pause, whenever they began. With 6 and 3
# milliseconds two ninths would miss all three.
PAUSE = 0.005
WRITE = 0.008
# The most rows in one write, and the fewest that we aim at.
MOST, FEWEST = 1000, 20
# The weight of the latest write in the mean of what a row costs.
LATEST = 0.2


class Pace:
    """How many rows a child writes at once, and when it may write again."""

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
        """Around a write; yields what is to be told how many rows it wrote."""
        if db.on_postgresql():
            yield lambda _: None
            return
        time.sleep(max(0.0, self._wrote_at + PAUSE - elapsed()))
        began = elapsed()

        def learn(rows: int) -> None:
            if rows >= FEWEST:  # of a few rows the commit itself is most of the cost
                cost = (elapsed() - began) / rows
                self._cost = self._cost * (1 - LATEST) + cost * LATEST

        try:
            yield learn
        finally:
            self._wrote_at = elapsed()
