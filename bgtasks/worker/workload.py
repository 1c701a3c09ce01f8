"""The claimed rows of a worker: those that are ready, that run, and that have ended.

One lock guards all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from bgtasks.clock import elapsed
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.counters import waited
from bgtasks.queue.ending import Ending
from bgtasks.worker.bell import KeeperBell, LoopBell
from bgtasks.worker.lane import PATIENCE, Lane
from bgtasks.worker.options import Options
from bgtasks.worker.outbox import Outbox
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.suspects import Suspects
from bgtasks.worker.wakeup import WakeUp


class Workload:
    """Hands rows from the keeper to the threads and the event loop, and endings back to the keeper.

    Args:
        options: how many rows run at the same time.
        wakeup: what the keeper sleeps by.
        marks: where the supervisor says that no more rows may start for now.
        loop_bell: wakes the event loop when rows for it may start.

    Attributes:
        bell: wakes the keeper when there is something for it to do.
        plain: the rows that threads run.
        coroutines: the rows that the event loop runs.
        suspects: the rows that must run alone.
        outbox: the endings and the progress that are not recorded yet.
        closed: whether no more rows start. Each thread ends when its run has ended.
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
        """How many rows of a lane to claim now."""
        with self._changed:
            stopped = self.closed or self.suspects.one_runs or self._marks.retiring
            return 0 if stopped else lane.room()

    def add(self, rows: Sequence[ClaimedRow]) -> None:
        """Put in claimed rows, which may start from now on."""
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
        """Take out rows to be handed back: the runs before them take long, or no row may start."""
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
        """Take all endings, to record them. Call `put_back` afterwards in any case."""
        with self._changed:
            return self.outbox.take()

    def put_back(self, taken: Sequence[Ending], rest: Sequence[Ending]) -> None:
        """Note that the endings that were taken are recorded, and put the rest of them back.

        Args:
            taken: what `take_ended` returned.
            rest: those of them that could not be recorded.
        """
        with self._changed:
            self.outbox.put_back(taken, rest)
            if self.suspects.waiting:
                self._wake_all()

    def held(self) -> set[int]:
        """The ids of all rows that this worker has and that are not recorded yet."""
        with self._changed:
            found = {claimed.pk for claimed in self.suspects.waiting} | self.outbox.held()
            for lane in self._lanes:
                found |= {claimed.pk for claimed in lane.ready}
                found |= lane.running.keys()
            return found

    def close(self) -> None:
        """Start no more rows. Each thread ends when its run has ended."""
        with self._changed:
            self.closed = True
            self._wake_all()

    def notify(self) -> None:
        """Have waiting rows considered again, for with time another of them may start."""
        with self._changed:
            if self.waiting:
                self._wake_all()

    @property
    def idle(self) -> bool:
        """Whether no row waits or runs, and all endings are recorded."""
        with self._changed:
            running = any(lane.running for lane in self._lanes)
            return not (self.outbox.unrecorded or running or self.waiting)

    @property
    def waiting(self) -> bool:
        """Whether there are rows that have not started."""
        return bool(self.suspects.waiting or self.plain.ready or self.coroutines.ready)

    @property
    def has_coroutines(self) -> bool:
        """Whether a row waits for the event loop."""
        return any(claimed.is_coroutine for claimed in list(self.suspects.waiting)) or bool(
            self.coroutines.ready
        )

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self.coroutines.wake(0)

    # --- for those who run rows

    def wait(self, timeout: float) -> bool:
        """Wait until a row may start in a thread, or until the workload is closed.

        Args:
            timeout: the most seconds to wait.

        Returns:
            Whether one of the two is so.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self.closed or self._startable(self.plain) is not None, timeout
            )

    def take(self) -> ClaimedRow | None:
        """Wait for the next row that may start in a thread, and take it out.

        None when the workload is closed.
        """
        with self._changed:
            while (claimed := self._startable(self.plain)) is None:
                if self.closed:
                    return None
                self._changed.wait()
            self._start(self.plain, claimed)
            return claimed

    def take_now(self) -> ClaimedRow | None:
        """Take out the next row for the event loop; None if none may start now."""
        lane = self.coroutines
        with self._changed:
            claimed = None if len(lane.running) >= lane.slots else self._startable(lane)
            if claimed is not None:
                self._start(lane, claimed)
            return claimed

    def _startable(self, lane: Lane) -> ClaimedRow | None:
        """The row of a lane that may start now, beside the running ones; None if there is none.

        While a suspect waits until nothing runs, other rows still start. After `PATIENCE` seconds
        they do not, or the suspect would never have its turn.
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
        """Put back a row that was taken and has not been started."""
        lane = self._lanes[claimed.is_coroutine]
        with self._changed:
            lane.running.pop(claimed.pk, None)
            waiting = self.suspects.waiting if self.suspects.one_runs else lane.ready
            waiting.appendleft(claimed)
            self.suspects.one_runs = False
            self._wake_all()

    def leave(self, claimed: ClaimedRow, ending: Ending | None) -> None:
        """Note that a run is over.

        Args:
            claimed: its row.
            ending: how it ended; None if there is nothing to record, as the claim was lost.
        """
        lane = self._lanes[claimed.is_coroutine]
        if ending is not None:
            ending.waited = waited(claimed.due, ending.started_at)
        with self._changed:
            took = lane.end(claimed)
            if ending is not None:
                ending.ran = took
                self.outbox.put(ending)
            if self.suspects.one_runs or self.suspects.waiting:
                self.suspects.one_runs = False
                self._wake_all()
            if len(self.outbox.endings) == 1 or not lane.ready:
                self.bell.ring()
