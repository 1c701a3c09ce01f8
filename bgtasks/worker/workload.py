"""Claimed rows on their way through a worker: ready, running, ended. One lock over all."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.worker.bell import KeeperBell, LoopBell
from bgtasks.worker.lane import PATIENCE, Lane
from bgtasks.worker.options import Options
from bgtasks.worker.outbox import Outbox
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.suspects import Suspects
from bgtasks.worker.wakeup import WakeUp


class Workload:
    """Takes rows from the keeper to those who run them, and keeps their endings for it.

    Args:
        wakeup: by which the keeper sleeps.
        marks: in which the supervisor says that no more rows may start for now.
        loop_bell: wakes the event loop when rows for it may start.

    Attributes:
        plain: the rows that threads run.
        coroutines: the rows that the event loop runs.
        suspects: the rows that run alone.
        outbox: what has ended.
        closed: nothing more starts; threads end when what they run has ended.
    """

    def __init__(
        self, options: Options, wakeup: WakeUp, marks: Marks, loop_bell: LoopBell | None = None
    ) -> None:
        self._marks = marks
        self._changed = threading.Condition(threading.Lock())
        self.bell = KeeperBell(wakeup)
        self.plain = Lane(options.threads, self._changed.notify)
        self.coroutines = Lane(options.coroutines, (loop_bell or LoopBell()).ring)
        self._lanes = (self.plain, self.coroutines)  # in the order of `ClaimedRow.is_coroutine`
        self.suspects = Suspects(self._changed)
        self.outbox = Outbox(self._changed, self.bell)
        self.closed = False

    # --- for the keeper

    def wanted(self, lane: Lane) -> int:
        """How many rows to claim now."""
        with self._changed:
            stopped = self.closed or self.suspects.one_runs or self._marks.retiring
            return 0 if stopped else lane.room()

    def add(self, rows: Sequence[ClaimedRow]) -> None:
        """Rows that were claimed may start now."""
        with self._changed:
            counts = [0, 0]
            for claimed in rows:
                counts[claimed.is_coroutine] += 1
                if self.suspects.includes(claimed):
                    self.suspects.waiting.append(claimed)
                else:
                    self._lanes[claimed.is_coroutine].ready.append(claimed)
            for lane, count in zip(self._lanes, counts, strict=True):
                if count:
                    lane.wake(count)

    def overripe(self) -> list[ClaimedRow]:
        """Rows to hand back, for those before them take long or no more may start."""
        with self._changed:
            if self.closed or self._marks.retiring or self.suspects.one_runs:
                stuck, over = list(self._lanes), True
            else:
                stuck = [lane for lane in self._lanes if lane.ready and lane.stuck]
                over = max(lane.longest for lane in self._lanes) > PATIENCE
            rows = self.suspects.clear() if over else []
            for lane in stuck:
                rows += lane.empty()
            return rows

    def take_ended(self) -> list[Ending]:
        """The endings since the last time; call `put_back` when they are recorded or not."""
        with self._changed:
            return self.outbox.take()

    def put_back(self, taken: Sequence[Ending], rest: Sequence[Ending]) -> None:
        """Of the endings that were taken, the rest could not be recorded."""
        with self._changed:
            self.outbox.put_back(taken, rest)
            if self.suspects.waiting:
                self._wake_all()

    def held(self) -> set[int]:
        """The ids of all rows in our hands."""
        with self._changed:
            found = {claimed.pk for claimed in self.suspects.waiting} | self.outbox.held()
            for lane in self._lanes:
                found |= {claimed.pk for claimed in lane.ready}
                found |= lane.running.keys()
            return found

    def close(self) -> None:
        """Start nothing more. Threads end when what they run has ended."""
        with self._changed:
            self.closed = True
            self._wake_all()

    def notify(self) -> None:
        """Look again whether a row may start, for time has passed."""
        with self._changed:
            if self.waiting:
                self._wake_all()

    @property
    def idle(self) -> bool:
        """Whether nothing waits, runs, or is still to be recorded."""
        with self._changed:
            running = any(lane.running for lane in self._lanes)
            return not (self.outbox.unrecorded or running or self.waiting)

    @property
    def waiting(self) -> bool:
        """Whether rows are ready that have not started."""
        return bool(self.suspects.waiting or self.plain.ready or self.coroutines.ready)

    @property
    def has_coroutines(self) -> bool:
        """Whether the event loop has something to run."""
        return any(claimed.is_coroutine for claimed in list(self.suspects.waiting)) or bool(
            self.coroutines.ready
        )

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self.coroutines.wake(0)

    # --- for those who run rows

    def wait(self, timeout: float) -> bool:
        """Wait for a row that may start, or for the end; returns whether there is one or it is."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.closed or self._startable(self.plain) is not None, timeout
            )

    def take(self) -> ClaimedRow | None:
        """The next row for a thread, when it may start; None when there will be no more."""
        with self._changed:
            while (claimed := self._startable(self.plain)) is None:
                if self.closed:
                    return None
                self._changed.wait()
            self._start(self.plain, claimed)
            return claimed

    def take_now(self) -> ClaimedRow | None:
        """The next row for the event loop; None if none may start now."""
        lane = self.coroutines
        with self._changed:
            claimed = None if len(lane.running) >= lane.slots else self._startable(lane)
            if claimed is not None:
                self._start(lane, claimed)
            return claimed

    def _startable(self, lane: Lane) -> ClaimedRow | None:
        """The first row of a lane that may start beside what is running.

        Others pass a suspect by that waits for its turn, but not for long, or it would never
        have it.
        """
        if self.closed or self.suspects.one_runs or self._marks.retiring:
            return None
        if self.suspects.waiting:
            first = self.suspects.waiting[0]
            if not (self.outbox.unrecorded or any(each.running for each in self._lanes)):
                return first if self._lanes[first.is_coroutine] is lane else None
            if elapsed() - first.claimed_at > PATIENCE:
                return None
        return lane.ready[0] if lane.ready else None

    def _start(self, lane: Lane, claimed: ClaimedRow) -> None:
        if lane.ready and lane.ready[0] is claimed:
            lane.ready.popleft()
            if len(lane.ready) == lane.low:
                self.bell.ring()
        else:
            self.suspects.waiting.popleft()
            self.suspects.one_runs = True
        lane.start(claimed)

    def give_back(self, claimed: ClaimedRow) -> None:
        """A row that was taken and has not been started is ready again."""
        lane = self._lanes[claimed.is_coroutine]
        with self._changed:
            lane.running.pop(claimed.pk, None)
            waiting = self.suspects.waiting if self.suspects.one_runs else lane.ready
            waiting.appendleft(claimed)
            self.suspects.one_runs = False
            self._wake_all()

    def leave(self, claimed: ClaimedRow, ending: Ending | None) -> None:
        """A row is no longer run; its ending, unless it is recorded already."""
        lane = self._lanes[claimed.is_coroutine]
        with self._changed:
            lane.end(claimed)
            if ending is not None:
                self.outbox.put(ending)
            if self.suspects.one_runs or self.suspects.waiting:
                self.suspects.one_runs = False
                self._wake_all()
            if len(self.outbox.endings) == 1 or not lane.ready:
                self.bell.ring()
