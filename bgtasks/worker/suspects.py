"""Rows whose last run ended with its worker. Each runs alone, for it may end this one too."""

from __future__ import annotations

import threading
from collections import deque

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.rescue import suspect

# For so many seconds a process tries to run such a row alone. After that, there being always
# something else that runs long, it runs like any other.
TRIED_ALONE = 30.0
MOST_REMEMBERED = 1000


class Suspects:
    """The suspects in a worker's hands.

    One starts when nothing else runs and what ran before it is safe in the database.

    Args:
        lock: of the workload. Whoever calls `includes` or `clear` holds it.

    Attributes:
        waiting: those that have not started.
        one_runs: whether one is running, so that nothing else may start.
    """

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        self.waiting: deque[ClaimedRow] = deque()
        self.one_runs = False
        self._since: dict[int, float] = {}

    def includes(self, claimed: ClaimedRow) -> bool:
        """Whether a row is to run alone."""
        if not suspect(claimed.row):
            if self._since:
                self._since.pop(claimed.pk, None)
            return False
        since = self._since.setdefault(claimed.pk, elapsed())
        if len(self._since) > MOST_REMEMBERED:  # others ran them meanwhile
            self._since = {claimed.pk: since}
        return elapsed() - since < TRIED_ALONE

    def surplus(self) -> list[ClaimedRow]:
        """Take out all but one, to be handed back. What is not about to start should not be held.

        Of a lost host nobody knows which rows had begun, so that all it held count as lost.
        """
        with self._lock:
            return [self.waiting.pop() for _ in range(len(self.waiting) - 1)][::-1]

    def clear(self) -> list[ClaimedRow]:
        """Take out all."""
        rows = list(self.waiting)
        self.waiting.clear()
        return rows
