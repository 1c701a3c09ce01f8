"""The rows of one kind in a worker: those that threads run, or those that the event loop runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.worker.options import Options

# How much work a worker claims ahead of its running tasks: rows that take about `AHEAD` seconds,
# by the mean of recent durations, and at most `MOST_AHEAD` rows. The number is limited because all
# rows that a lost host held count as begun.
AHEAD = 0.1
MOST_AHEAD = 500
# If all slots are taken and no row has started for this many seconds, waiting rows are handed back.
PATIENCE = 1.0
# The weight of the latest task in the exponential moving average of their durations.
LATEST_TASK = 0.2


def slots_for(options: Options) -> int:
    """The most rows that a worker can have begun and not yet recorded."""
    return sum(2 * (slots + MOST_AHEAD) for slots in (options.threads, options.coroutines))


class Lane:
    """The rows of one kind. Whoever calls a method holds the lock of the workload.

    Args:
        slots: how many rows run at the same time.
        wake: wakes the threads or the loop that run them; it takes the number of new rows.

    Attributes:
        ready: the rows that have not started.
        running: when each running row has started, by its id. The oldest is the first.
        low: the number of ready rows at which the keeper should claim more.
    """

    def __init__(self, slots: int, wake: Callable[[int], None]) -> None:
        self.slots = slots
        self.wake = wake
        self.ready: deque[ClaimedRow] = deque()
        self.running: dict[int, float] = {}
        self.low = 0
        self._mean = AHEAD * 10  # until the first task has ended, assume that they are slow
        self._moved_at = elapsed()

    def room(self) -> int:
        """How many rows to claim now.

        0 as long as more than `low` are ready: each claim costs a statement, however small it is.
        """
        ahead = 0 if self.stuck else int(min(MOST_AHEAD, self.slots * AHEAD / self._mean))
        self.low = ahead // 2
        if len(self.ready) > self.low:
            return 0
        return max(0, self.slots + ahead - len(self.ready) - len(self.running))

    def start(self, claimed: ClaimedRow) -> None:
        self._moved_at = self.running[claimed.pk] = elapsed()

    def end(self, claimed: ClaimedRow) -> float:
        """Note that a row has ended; returns for how many seconds it ran."""
        now = elapsed()
        took = now - self.running.pop(claimed.pk, now)
        self._mean = max(1e-6, self._mean * (1 - LATEST_TASK) + took * LATEST_TASK)
        return took

    def empty(self) -> list[ClaimedRow]:
        """Take out all rows that are ready."""
        rows = list(self.ready)
        self.ready.clear()
        return rows

    @property
    def stuck(self) -> bool:
        """Whether ready rows will not start soon: all slots are taken, by runs that take long."""
        return len(self.running) >= self.slots and elapsed() - self._moved_at > PATIENCE

    @property
    def longest(self) -> float:
        """Seconds since the oldest of the running rows has started; 0 if none runs."""
        now = elapsed()
        return now - next(iter(self.running.values()), now)
