"""Claimed rows on their way through a child: ready, running, ended. One lock over all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from background_task.models import Task

from bgtasks.clock import elapsed
from bgtasks.queue.ending import Ending
from bgtasks.queue.rescue import suspect
from bgtasks.tasks.current import CurrentTask
from bgtasks.worker.options import Options

# As much work as a child claims ahead, in seconds by what tasks took lately; and in rows, for
# what is held when a whole host is lost counts as begun.
AHEAD = 0.1
MOST_AHEAD = 500
# Once nothing has started for so long, what waits is handed back.
PATIENCE = 1.0
# For so many seconds a process tries to run a row alone that was lost with its worker. After that,
# there being always something else that runs long, it runs like any other.
TRIED_ALONE = 30.0
MOST_SUSPECTED = 1000
# The weight of the latest task in the mean of their durations.
LATEST = 0.2


def slots_for(options: Options) -> int:
    """The most rows that a child can have begun and not yet recorded."""
    return sum(2 * (slots + MOST_AHEAD) for slots in (options.threads, options.coroutines))


class Lane:
    """The rows of one kind: those that threads run, or those that the event loop runs.

    Args:
        slots: how many run at the same time.
        wake: called when so many rows may start.
    """

    def __init__(self, slots: int, wake: Callable[[int], None]) -> None:
        self.slots = slots
        self.wake = wake
        self.ready: deque[Task] = deque()
        self.running: dict[int, float] = {}  # the first is the oldest
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

    def start(self, row: Task) -> None:
        self._moved_at = self.running[row.pk] = elapsed()

    def end(self, row: Task) -> None:
        now = elapsed()
        took = now - self.running.pop(row.pk, now)
        self._mean = max(1e-6, self._mean * (1 - LATEST) + took * LATEST)

    @property
    def stuck(self) -> bool:
        """Whether what is ready has no prospect of starting soon."""
        return len(self.running) >= self.slots and elapsed() - self._moved_at > PATIENCE


class Workload:
    """Hands rows from the keeper to those who run them, and their endings back.

    Args:
        poke: called when there is something for the keeper to do while it dozes.
        paused: whether no more rows may start for now.
        wake_loop: called when rows for the event loop may start, with how many are new.
    """

    def __init__(
        self,
        options: Options,
        poke: Callable[[], None],
        paused: Callable[[], bool],
        wake_loop: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._poke = poke
        self._paused = paused
        self._changed = threading.Condition(threading.Lock())
        self.plain = Lane(options.threads, self._changed.notify)
        self.coroutines = Lane(options.coroutines, wake_loop)
        self._lanes = (self.plain, self.coroutines)
        # Rows whose last run ended with its worker. Such a one might do so again: it runs alone,
        # and once what ran before it is safe in the database.
        self._suspects: deque[tuple[Lane, Task]] = deque()
        self._alone = False
        self._suspected_since: dict[int, float] = {}
        self._ended: list[Ending] = []
        self._told: list[CurrentTask] = []  # that have said how far they have come
        self._recording: set[int] = set()
        self._unrecorded = 0
        self._closed = False
        self._dozing = self._attention = False

    # --- for the keeper

    def wanted(self, lane: Lane) -> int:
        """How many rows to claim now."""
        with self._changed:
            return 0 if self._closed or self._alone or self._paused() else lane.room()

    def add(self, lane: Lane, rows: Sequence[Task]) -> None:
        if not rows:
            return
        with self._changed:
            for row in rows:
                if self._is_to_run_alone(row):
                    self._suspects.append((lane, row))
                else:
                    lane.ready.append(row)
            lane.wake(len(rows))

    def _is_to_run_alone(self, row: Task) -> bool:
        if not suspect(row):
            self._suspected_since.pop(row.pk, None)
            return False
        since = self._suspected_since.setdefault(row.pk, elapsed())
        if len(self._suspected_since) > MOST_SUSPECTED:  # others ran them meanwhile
            self._suspected_since = {row.pk: since}
        return elapsed() - since < TRIED_ALONE

    def give_back(self, lane: Lane, row: Task) -> None:
        """A row that was taken and has not been started is ready again."""
        with self._changed:
            lane.running.pop(row.pk, None)
            if self._alone:
                self._alone = False
                self._suspects.appendleft((lane, row))
            else:
                lane.ready.appendleft(row)
            self._wake_all()

    def surplus(self) -> list[Task]:
        """Suspects to hand back: all but one. What is not about to start should not be held.

        Of a lost host nobody knows which rows had begun, so that all it held count as lost.
        """
        with self._changed:
            return [self._suspects.pop()[1] for _ in range(len(self._suspects) - 1)][::-1]

    def overripe(self) -> list[Task]:
        """Rows to hand back, for those before them take long or no more may start."""
        with self._changed:
            if self._closed or self._paused() or self._alone:
                return self._clear(self._lanes, suspects=True)
            stuck = [lane for lane in self._lanes if lane.ready and lane.stuck]
            return self._clear(stuck, self._longest() > PATIENCE)

    def _clear(self, lanes: Iterable[Lane], suspects: bool) -> list[Task]:
        rows = [row for _, row in self._suspects] if suspects else []
        if suspects:
            self._suspects.clear()
        for lane in lanes:
            rows += lane.ready
            lane.ready.clear()
        return rows

    def _longest(self) -> float:
        now = elapsed()
        return max((now - next(iter(x.running.values()), now) for x in self._lanes), default=0.0)

    def record(self, record: Callable[[list[Ending]], None]) -> None:
        """Have the endings since the last time recorded.

        Args:
            record: takes out of a list what it has recorded, also when it raises.
        """
        with self._changed:
            ended, self._ended = self._ended, []
            self._recording |= {ending.row.pk for ending in ended}
        rest = list(ended)
        try:
            record(rest)
        finally:
            with self._changed:
                self._recording -= {ending.row.pk for ending in ended}
                self._ended = [*rest, *self._ended]
                self._unrecorded -= len(ended) - len(rest)
                if self._suspects:
                    self._wake_all()

    def take_told(self) -> list[CurrentTask]:
        """The tasks that have something new to tell of their progress."""
        with self._changed:
            told, self._told = self._told, []
            return told

    @property
    def told(self) -> bool:
        """Whether there are such."""
        return bool(self._told)

    def held(self) -> set[int]:
        """The ids of all rows in our hands."""
        with self._changed:
            found = {row.pk for _, row in self._suspects} | self._recording
            found |= {ending.row.pk for ending in self._ended}
            for lane in self._lanes:
                found |= {row.pk for row in lane.ready}
                found |= lane.running.keys()
            return found

    def close(self) -> None:
        """Start nothing more. Threads end when what they run has ended."""
        with self._changed:
            self._closed = True
            self._wake_all()

    def notify(self) -> None:
        """Look again whether a row may start, for time has passed."""
        with self._changed:
            if self._waiting:
                self._wake_all()

    def doze(self) -> bool:
        """Ask to be poked from now on; returns whether there is nothing to do as yet."""
        with self._changed:
            self._dozing = not self._attention
            self._attention = False
            return self._dozing

    def _call_keeper(self) -> None:
        if self._dozing:
            self._dozing = False
            self._poke()
        else:
            self._attention = True

    @property
    def idle(self) -> bool:
        with self._changed:
            return not (self._unrecorded or self._running or self._waiting)

    @property
    def waiting(self) -> bool:
        """Whether rows are ready that have not started."""
        with self._changed:
            return self._waiting

    @property
    def ended(self) -> bool:
        """Whether there are endings to collect."""
        return bool(self._ended)

    @property
    def _waiting(self) -> bool:
        return bool(self._suspects or self.plain.ready or self.coroutines.ready)

    @property
    def _running(self) -> bool:
        return bool(self.plain.running or self.coroutines.running)

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self.coroutines.wake(0)

    # --- for those who run rows

    @property
    def closed(self) -> bool:
        return self._closed

    def wait(self, timeout: float) -> bool:
        """Wait for a row that may start, or for the end; returns whether there is one or it is."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or self._startable(self.plain) is not None, timeout
            )

    def take(self) -> Task | None:
        """The next row for a thread, when it may start; None when there will be no more."""
        with self._changed:
            while (row := self._startable(self.plain)) is None:
                if self._closed:
                    return None
                self._changed.wait()
            self._start(self.plain, row)
            return row

    def take_now(self) -> Task | None:
        """The next row for the event loop; None if none may start now."""
        lane = self.coroutines
        with self._changed:
            row = None if len(lane.running) >= lane.slots else self._startable(lane)
            if row is not None:
                self._start(lane, row)
            return row

    def _startable(self, lane: Lane) -> Task | None:
        """The first row of a lane that may start beside what is running.

        Others pass a suspect by that waits for its turn, but not for long, or it would never
        have it.
        """
        if self._closed or self._alone or self._paused():
            return None
        if self._suspects:
            home, row = self._suspects[0]
            if not (self._running or self._unrecorded):
                return row if home is lane else None
            if elapsed() - row._bgtasks_claimed_at > PATIENCE:
                return None
        return lane.ready[0] if lane.ready else None

    def _start(self, lane: Lane, row: Task) -> None:
        if lane.ready and lane.ready[0] is row:
            lane.ready.popleft()
            if len(lane.ready) == lane.low:
                self._call_keeper()
        else:
            self._suspects.popleft()
            self._alone = True
        lane.start(row)

    def report(self, task: CurrentTask) -> None:
        """A running task has told how far it has come, for the first time since the last write."""
        with self._changed:
            self._told.append(task)
            self._call_keeper()

    def leave(self, lane: Lane, row: Task, ending: Ending | None) -> None:
        """A row is no longer run; its ending, unless it is recorded already."""
        with self._changed:
            lane.end(row)
            if ending is not None:
                self._ended.append(ending)
                self._unrecorded += 1
            if self._alone or self._suspects:
                self._alone = False
                self._wake_all()
            if len(self._ended) == 1 or not lane.ready:
                self._call_keeper()
