"""The rows of one kind on their way through a worker: those of threads, or of the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.worker.options import Options

# As much work as a worker claims ahead, in seconds by what tasks took lately; and in rows, for
# what is held when a whole host is lost counts as begun.
AHEAD = 0.1
MOST_AHEAD = 500
# Once nothing has started for so many seconds, what waits is handed back.
PATIENCE = 1.0
# The weight of the latest task in the mean of their durations.
LATEST = 0.2


def slots_for(options: Options) -> int:
    """The most rows that a worker can have begun and not yet recorded."""
    return sum(2 * (slots + MOST_AHEAD) for slots in (options.threads, options.coroutines))


class Lane:
    """The rows of one kind. Its workload's lock is held by whoever calls a method.

    Args:
        slots: how many run at the same time.
        wake: wakes those who run them; takes how many rows may start.
    """

    def __init__(self, slots: int, wake: Callable[[int], None]) -> None:
        self.slots = slots
        self.wake = wake
        self.ready: deque[ClaimedRow] = deque()
        self.running: dict[int, float] = {}  # by id, when each has started; the first is the oldest
        self.low = 0
        self._mean = AHEAD * 10  # until we know better, tasks are slow: none is claimed ahead
        self._moved_at = elapsed()

    def room(self) -> int:
        """How many rows to claim now. Small top-ups cost a statement each: not those."""
        ahead = 0 if self.stuck else int(min(MOST_AHEAD, self.slots * AHEAD / self._mean))
        self.low = ahead // 2
        if len(self.ready) > self.low:
            return 0
        return max(0, self.slots + ahead - len(self.ready) - len(self.running))

    def start(self, claimed: ClaimedRow) -> None:
        self._moved_at = self.running[claimed.pk] = elapsed()

    def end(self, claimed: ClaimedRow) -> None:
        now = elapsed()
        took = now - self.running.pop(claimed.pk, now)
        self._mean = max(1e-6, self._mean * (1 - LATEST) + took * LATEST)

    def empty(self) -> list[ClaimedRow]:
        """Take out all that is ready."""
        rows = list(self.ready)
        self.ready.clear()
        return rows

    @property
    def stuck(self) -> bool:
        """Whether what is ready has no prospect of starting soon."""
        return len(self.running) >= self.slots and elapsed() - self._moved_at > PATIENCE

    @property
    def longest(self) -> float:
        """The seconds since the oldest of what runs has started; 0 if nothing runs."""
        now = elapsed()
        return now - next(iter(self.running.values()), now)
