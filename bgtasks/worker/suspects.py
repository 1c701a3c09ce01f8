"""Suspects: rows whose last run ended with its worker's death. It may have been their doing.

So each of them runs alone in its worker, where its next run can harm no other row.
"""

from __future__ import annotations

import threading
from collections import deque

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.rescue import suspect

# How many seconds a process tries to run a suspect alone. If there is always another row that runs
# long, the suspect runs like any other after that.
TRIED_ALONE = 30.0
# Of how many suspects a process remembers when it had them first.
MOST_REMEMBERED = 1000


class Suspects:
    """The suspects that a worker has claimed.

    One may start when no other row runs and all endings are recorded.

    Args:
        lock: the lock of the workload. Whoever calls `includes` or `clear` holds it.

    Attributes:
        waiting: those that have not started.
        one_runs: whether one is running. As long as it does, no other row may start.
    """

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        self.waiting: deque[ClaimedRow] = deque()
        self.one_runs = False
        self._since: dict[int, float] = {}

    def includes(self, claimed: ClaimedRow) -> bool:
        """Whether a row is to run alone: it is a suspect, and was not tried alone for too long."""
        if not suspect(claimed.row):
            if self._since:
                self._since.pop(claimed.pk, None)
            return False
        since = self._since.setdefault(claimed.pk, elapsed())
        if len(self._since) > MOST_REMEMBERED:  # other workers have run most of them meanwhile
            self._since = {claimed.pk: since}
        return elapsed() - since < TRIED_ALONE

    def surplus(self) -> list[ClaimedRow]:
        """Take out all waiting suspects but one, to be handed back.

        A suspect that will not start soon should not be held: if this host is lost, nobody knows
        which of its rows had begun, and all that it held count as lost once more.
        """
        with self._lock:
            return [self.waiting.pop() for _ in range(len(self.waiting) - 1)][::-1]

    def clear(self) -> list[ClaimedRow]:
        """Take out all waiting suspects."""
        rows = list(self.waiting)
        self.waiting.clear()
        return rows
