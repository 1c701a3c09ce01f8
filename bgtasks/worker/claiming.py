"""Decides when a worker claims rows, of which kind, and how many."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

from bgtasks.clock import elapsed
from bgtasks.queue import claims
from bgtasks.queue.claims import Claimant
from bgtasks.queue.frontier import REST, Frontier
from bgtasks.queue.notify import DEBOUNCE
from bgtasks.queue.pacing import Pace
from bgtasks.tasks import registry
from bgtasks.worker.options import Options
from bgtasks.worker.parts import HandingBack, Work

# A process that enqueues sends no notification if it has sent one within the last `DEBOUNCE`
# seconds. So a worker that was woken polls every `POLL_SOON` seconds for as long as that, and then
# less and less often, until `AWAKE` seconds after it was woken it waits for notifications again.
POLL_SOON, AWAKE = 0.004, 0.5


class Stream:
    """The rows on the queue of one kind, or of both. The kinds are plain functions and coroutines.

    All times are by `bgtasks.clock.elapsed`, in seconds.

    Attributes:
        frontier: claims these rows.
        empty: whether the last poll found no row that was ready.
        confirmed: whether `empty` is certain: the last poll left out nothing, and since then no
            run has ended that may have enqueued a row.
        polled_at: when the last poll was.
        poll_at: when to poll again, if `empty`.
        rest_until: the time before which only a notification makes it poll; see
            `bgtasks.queue.frontier.REST`.
    """

    def __init__(self, frontier: Frontier) -> None:
        self.frontier = frontier
        self.empty = self.confirmed = False
        self.polled_at = self.poll_at = self.rest_until = 0.0


class Claiming:
    """Fills a workload with rows from the queue.

    Args:
        claimant: the child whose name stands in the claims.
        pace: limits how many rows one statement claims.
        handing_back: takes claimed rows that must run alone and cannot do so soon.
    """

    def __init__(
        self,
        claimant: Claimant,
        options: Options,
        work: Work,
        pace: Pace,
        handing_back: HandingBack,
    ) -> None:
        self._claimant = claimant
        self._options = options
        self._work = work
        self._pace = pace
        self._handing_back = handing_back
        self._numbers = count(1)
        self._coroutines: set[str] = set()
        # One stream of both kinds, which is polled if there is room for both, and one of each.
        self._both = self._new_stream([])
        self._each: list[Stream] = []
        self._known = 0
        self._stale = False
        self._woken_at = -AWAKE

    def poll_again(self) -> None:
        """Poll soon, for a run that has ended may have enqueued rows. Any thread may call this."""
        self._stale = True

    def wake(self) -> None:
        """Poll now and a few times more, for something was written to the database."""
        self._woken_at = elapsed()
        for stream in (self._both, *self._each):
            # No sooner than `POLL_SOON` after the last poll: on SQLite every write to the database
            # wakes this worker, also those that do not concern it.
            stream.poll_at = min(stream.poll_at, stream.polled_at + POLL_SOON)

    def claim(self) -> None:
        """Claim rows, if the workload has room and the queue may have some.

        Raises:
            DatabaseError, InterfaceError: the database does not answer.
        """
        self._learn_tasks()
        if self._stale:
            self._stale = False
            for stream in (self._both, *self._each):
                stream.confirmed = False
                stream.poll_at = min(stream.poll_at, stream.rest_until)
        if all(self._room()):
            wanted = min(self._room())
            if self._claim_from(self._both, wanted) < wanted:
                return  # the queue has no more rows of either kind
        if self._coroutines:
            for stream, wanted in zip(self._each, self._room(), strict=True):
                self._claim_from(stream, wanted)

    @property
    def drained(self) -> bool:
        """Whether the queue holds no row that this worker could claim now."""
        streams = self._open_streams()
        return not self._stale and bool(streams) and all(stream.confirmed for stream in streams)

    @property
    def only_time_or_a_new_row_helps(self) -> bool:
        """Whether there is nothing to claim until a row is enqueued, or due."""
        streams = self._open_streams()
        return not self._stale and bool(streams) and all(stream.empty for stream in streams)

    def due_in(self) -> float | None:
        """Seconds until it is worthwhile to claim again; None if the workload has no room."""
        if self._stale:
            return 0.0
        now = elapsed()
        due = [stream.poll_at - now if stream.empty else 0.0 for stream in self._open_streams()]
        return min(due, default=None)

    def _learn_tasks(self) -> None:
        """Make new streams if the registry has got new tasks, by a module that was imported late.

        A stream claims only rows of tasks that were known when it was made.
        """
        names = registry.names()
        if len(names) == self._known:
            return
        self._known = len(names)
        self._coroutines = {name for name in names if registry.is_coroutine(name)}
        others = [name for name in names if name not in self._coroutines]
        self._both = self._new_stream(names)
        self._each = [self._new_stream(others), self._new_stream(self._coroutines)]

    def _new_stream(self, names: Collection[str]) -> Stream:
        queues, worker = self._options.queues, self._claimant.worker
        return Stream(Frontier(names, queues, worker, self._pace.writing))

    def _room(self) -> list[int]:
        """How many rows to claim of each kind: of plain functions, and of coroutines if any."""
        rooms = [self._work.wanted(self._work.plain)]
        if self._coroutines:
            rooms.append(self._work.wanted(self._work.coroutines))
        return [min(room, self._pace.most) for room in rooms]

    def _open_streams(self) -> list[Stream]:
        """The streams whose rows the workload has room for."""
        rooms = self._room()
        if all(rooms):
            return [self._both]
        return [stream for stream, wanted in zip(self._each, rooms, strict=False) if wanted]

    def _claim_from(self, stream: Stream, wanted: int) -> int:
        """Claim up to `wanted` rows of a stream if it may have some; returns how many it had."""
        if not wanted or (stream.empty and elapsed() < stream.poll_at):
            return 0
        began = elapsed()
        rows = stream.frontier.take(self._claimant.claim(next(self._numbers)), wanted)
        stream.empty = not rows
        stream.confirmed = stream.empty and stream.frontier.certain
        stream.polled_at = now = elapsed()
        if not rows:
            stream.rest_until = now + REST * (now - began)
            stream.poll_at = now + self._poll_in(stream)
        for claimed in rows if self._coroutines else ():
            claimed.is_coroutine = claimed.row.task_name in self._coroutines
        self._work.add(rows)
        self._handing_back.release(self._work.suspects.surplus(), claims.SUSPECTS_WAIT)
        return len(rows)

    def _poll_in(self, stream: Stream) -> float:
        """Seconds until the next poll of a stream that was found empty."""
        wait = self._options.sleep
        if stream.frontier.due_in is not None:
            wait = min(wait, stream.frontier.due_in + 0.001)
        awake = elapsed() - self._woken_at
        if awake < AWAKE:
            wait = min(wait, POLL_SOON if awake < DEBOUNCE + POLL_SOON else awake / 2)
        return max(wait, 0.001)
