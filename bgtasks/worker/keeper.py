"""The thread of a child that talks to the queue: it claims, records and hands back.

The only one that does, so that the endings of many rows share a transaction.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from datetime import timedelta
from itertools import count

from background_task.models import Task
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue import claims, progress, receivers, rescue
from bgtasks.queue.claims import Claimant
from bgtasks.queue.ending import Ending
from bgtasks.queue.frontier import REST, Frontier
from bgtasks.queue.listen import Listener, listener
from bgtasks.queue.notify import DEBOUNCE
from bgtasks.tasks import registry
from bgtasks.worker.options import Options
from bgtasks.worker.pacing import Pace
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload

logger = logging.getLogger(__name__)

# While more rows are ready, endings gather for this many seconds before they are recorded.
GATHER = 0.005
# A keeper that was woken looks again after this many seconds, as long as enqueuers may say
# nothing because they have just spoken, and then ever less often until `AWAKE` is over.
LOOK_SOON, AWAKE = 0.004, 0.5
# Seconds between tries while the database is away: the first, and the longest.
RETRY, LONGEST_RETRY = 0.1, 2.0
# No wait is doubled more often: it would be too long for a float some day.
MOST_DOUBLINGS = 10
# Seconds between looks for rows that we hold and know nothing of; the second after an outage.
LOOK, LOOK_AGAIN = 60.0, 5.0
# The most seconds that the keeper sleeps while it waits for others than the database.
WAIT = 0.25


class Stream:
    """The rows of one or both kinds on the queue: of plain functions, of coroutines.

    Attributes:
        empty: none was ready at the last look.
        confirmed: and nothing has happened since that could have enqueued one.
        looked_at: when that was.
        look_at: when to look again if so.
        rest_until: not before, unless we are woken; see `bgtasks.queue.frontier.REST`.
    """

    def __init__(self, frontier: Frontier) -> None:
        self.frontier = frontier
        self.empty = self.confirmed = False
        self.looked_at = self.look_at = self.rest_until = 0.0


class Keeper:
    """Keeps a child's workload filled, and its endings recorded.

    Args:
        claimant: in whose name it claims.
    """

    def __init__(
        self,
        claimant: Claimant,
        options: Options,
        work: Workload,
        recorder: Recorder,
        wakeup: WakeUp,
        pace: Pace,
    ) -> None:
        self._claimant = claimant
        self._options = options
        self._work = work
        self._recorder = recorder
        self._wakeup = wakeup
        self._pace = pace
        self._numbers = count(1)
        self._coroutines: set[str] = set()
        # The rows of either kind, for while there is room for both, and those of each.
        self._both = self._new_stream([])
        self._each: list[Stream] = []
        self._known = 0
        self._listener: Listener | None = None
        self._stopping = False
        self._stale = False
        self._woken_at = -AWAKE
        self._recorded_at = 0.0
        self._progress_at = -progress.EVERY
        self._trouble = 0
        self._orphaned_at: float | None = None
        self._look_at = elapsed() + LOOK
        self._was_away = False

    def stop(self) -> None:
        """Claim nothing more. Safe in a signal handler."""
        self._stopping = True
        self._wakeup.poke()

    def look(self) -> None:
        """The queue may have more rows than it had; look soon. Any thread may say so."""
        self._stale = True

    def run(self, turn: Callable[[], None] = lambda: None) -> None:
        """Keep until told to stop or, draining, until none is ready, and all has ended.

        Args:
            turn: called in every turn.
        """
        while not self._over():
            turn()
            try:
                self._record()
                self._write_progress()
                self._hand_back()
                self._hand_back_unknown()
                self._claim()
                self._trouble = 0
            except (DatabaseError, InterfaceError) as error:
                self._database_is_away(error)
            self._wait()
        if self._listener:
            self._listener.close()
        connections.close_all()

    def _over(self) -> bool:
        if self._drained:
            self._stopping = True
        if self._stopping:
            self._work.close()
        return self._stopping and self._work.idle

    @property
    def _drained(self) -> bool:
        # In this order: what is recorded may have enqueued something.
        if not self._options.drain or not self._work.idle or self._stale:
            return False
        streams = self._open_streams()
        return bool(streams) and all(stream.confirmed for stream in streams)

    @property
    def _asleep(self) -> bool:
        """Whether nothing but a new row, or the time, gives us something to claim."""
        if self._trouble or self._stopping or self._stale:
            return False
        streams = self._open_streams()
        return bool(streams) and all(stream.empty for stream in streams)

    # --- claiming

    def _claim(self) -> None:
        if self._stopping:
            return
        self._learn_tasks()
        if self._stale:
            self._stale = False
            for stream in (self._both, *self._each):
                stream.confirmed = False
                stream.look_at = min(stream.look_at, stream.rest_until)
        if all(self._room()):
            wanted = min(self._room())
            if self._claim_from(self._both, wanted) < wanted:
                return  # that was all, of either kind
        if self._coroutines:
            for stream, wanted in zip(self._each, self._room(), strict=True):
                self._claim_from(stream, wanted)

    def _learn_tasks(self) -> None:
        """Some may have been declared since the last time, by a module imported late."""
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
        """How many rows to claim of each kind."""
        rooms = [self._work.wanted(self._work.plain)]
        if self._coroutines:
            rooms.append(self._work.wanted(self._work.coroutines))
        return [min(room, self._pace.most) for room in rooms]

    def _open_streams(self) -> list[Stream]:
        """Those that there is room for."""
        rooms = self._room()
        if all(rooms):
            return [self._both]
        return [stream for stream, wanted in zip(self._each, rooms, strict=False) if wanted]

    def _claim_from(self, stream: Stream, wanted: int) -> int:
        """Claim rows, if some may be there; returns how many."""
        if not wanted or (stream.empty and elapsed() < stream.look_at):
            return 0
        # Before the claim: whoever is frozen in the middle of it must not take it for fresh.
        claimed_at = elapsed()
        token = self._claimant.claim(next(self._numbers))
        rows = stream.frontier.take(token, wanted)
        for row in rows:
            row._bgtasks_claimed_at = claimed_at
        stream.empty = not rows
        stream.confirmed = stream.empty and stream.frontier.certain
        stream.looked_at = now = elapsed()
        if not rows:
            stream.rest_until = now + REST * (now - claimed_at)
            stream.look_at = now + self._look_in(stream)
        self._add(rows)
        self._hand_back_suspects(self._work.surplus())
        return len(rows)

    def _add(self, rows: list[Task]) -> None:
        coroutines = [row for row in rows if row.task_name in self._coroutines]
        if coroutines:
            rows = [row for row in rows if row.task_name not in self._coroutines]
            self._work.add(self._work.coroutines, coroutines)
        self._work.add(self._work.plain, rows)

    def _look_in(self, stream: Stream) -> float:
        """Seconds until the next look at a queue that was found empty."""
        wait = self._options.sleep
        if stream.frontier.due_in is not None:
            wait = min(wait, stream.frontier.due_in + 0.001)
        awake = elapsed() - self._woken_at
        if awake < AWAKE:
            wait = min(wait, LOOK_SOON if awake < DEBOUNCE + LOOK_SOON else awake / 2)
        return max(wait, 0.001)

    # --- handing back

    def _hand_back(self) -> None:
        rows = self._work.overripe()
        suspects = [row for row in rows if rescue.suspect(row)]
        self._hand_back_suspects(suspects)
        self._release([row for row in rows if row not in suspects])

    def _hand_back_suspects(self, rows: list[Task]) -> None:
        """Not to be claimed again at once: they cannot start beside what runs here."""
        self._release(rows, claims.SUSPECTS_WAIT)

    def _release(self, rows: list[Task], delay: timedelta | None = None) -> None:
        try:
            claims.release(rows, delay)
        except (DatabaseError, InterfaceError):
            for row in rows:  # which may have been carried out: confirm it before it starts
                row._bgtasks_claimed_at = 0.0
            self._add(rows)  # to try again
            raise

    def _hand_back_unknown(self) -> None:
        """A claim whose answer was lost with its connection may have been carried out."""
        now = elapsed()
        if now < self._look_at:
            return
        ours = self._work.held() | self._recorder.stuck
        claims.release_unknown(self._claimant.prefix, ours)
        # The server may take a moment to notice that nobody listens, and carry it out later.
        self._look_at = now + (LOOK_AGAIN if self._was_away else LOOK)
        self._was_away = False

    # --- recording

    def _record(self) -> None:
        if self._work.ended and self._gathering() <= 0:
            self._record_now()

    def record_heard(self) -> None:
        """Record the endings that have gathered, in the thread that ran them.

        Raises:
            DatabaseError, InterfaceError: the database is away; the keeper goes on trying.
        """
        if self._work.ended and self._gathering(patience=0.0) <= 0:
            try:
                self._record_now()
            finally:
                self._wakeup.poke()

    def _write_progress(self) -> None:
        """Write what running tasks have told, not too often."""
        if self._work.told and self._untold_for() >= progress.EVERY:
            self._progress_at = elapsed()
            self._write_told()

    def _write_told(self) -> None:
        """Write what was told. What cannot be written is no reason not to run tasks.

        Raises:
            OperationalError, InterfaceError: the database is away.
        """
        if told := self._work.take_told():
            try:
                progress.write(told)
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                logger.exception("The progress of %d tasks is not recorded.", len(told))

    def _untold_for(self) -> float:
        return elapsed() - self._progress_at

    def _record_now(self) -> None:
        self._write_told()  # the last word of what has ended may be among it

        def record(waiting: list[Ending]) -> None:
            try:
                self._recorder.record(waiting)
            finally:
                self._stale = True  # they may have enqueued something
                self._recorded_at = elapsed()

        self._work.record(record)

    def _gathering(self, patience: float | None = None) -> float:
        """Seconds for which endings still gather before they are recorded.

        Args:
            patience: more of them. Where somebody listens, whoever ran the rows goes first.
        """
        if self._stopping or not self._work.waiting:
            return 0.0
        if patience is None:
            patience = GATHER if receivers.listened_to() else 0.0
        return self._recorded_at + GATHER + patience - elapsed()

    # --- waiting

    def _wait(self) -> None:
        if self._drained:
            return
        timeout, heard = self._timeout(), None
        try:
            if timeout > 0 and self._asleep:
                heard, timeout = self._listen(timeout)
        except (DatabaseError, InterfaceError) as error:
            self._database_is_away(error)
            timeout, heard = RETRY, None
        if timeout > 0 and not self._work.doze():
            timeout = 0
        if self._wakeup.wait(timeout, heard):
            self._wake()
        self._work.notify()
        if self._wakeup.orphaned:
            self._outlive_parent()

    def _listen(self, timeout: float) -> tuple[int | None, float]:
        """What to listen to while nothing is ready, and for how long."""
        if self._listener is None:
            self._listener = listener()
        if self._listener.prepare():
            self._wake()
            return None, 0
        if self._listener.every is not None:
            timeout = min(timeout, self._listener.every)
        return self._listener.fileno(), timeout

    def _wake(self) -> None:
        """Something was written: look now, and a few times more."""
        self._woken_at = elapsed()
        if self._listener:
            try:
                self._listener.heard()
            except (DatabaseError, InterfaceError) as error:
                self._database_is_away(error)
        for stream in (self._both, *self._each):
            # On SQLite we hear of all that anybody writes.
            stream.look_at = min(stream.look_at, stream.looked_at + LOOK_SOON)

    def _timeout(self) -> float:
        """Seconds until something is due."""
        now = elapsed()
        if self._trouble:
            doublings = min(self._trouble - 1, MOST_DOUBLINGS)
            return min(LONGEST_RETRY, RETRY * 2.0**doublings, self._rest())
        if self._stale and not self._stopping:
            return 0.0
        due = [self._rest()]
        if self._work.ended:
            due.append(self._gathering())
        if self._work.told:
            due.append(progress.EVERY - self._untold_for())
        for stream in self._open_streams() if not self._stopping else ():
            due.append(stream.look_at - now if stream.empty else 0.0)  # noqa: PERF401
        return max(0.0, min(due))

    def _rest(self) -> float:
        return WAIT if self._stopping or self._work.waiting else LONGEST_RETRY * 2

    def _outlive_parent(self) -> None:
        """Without a parent nobody renews our lease: be done before others take our rows."""
        now = elapsed()
        if self._orphaned_at is None:
            logger.error(
                "The supervisor of process %d is gone. Ending, with what runs, within its lease.",
                os.getpid(),
            )
            self._orphaned_at = now
            self._stopping = True
        if now - self._orphaned_at > conf.lease() / 2:
            os._exit(1)

    def _database_is_away(self, error: Exception) -> None:
        self._trouble += 1
        if self._trouble in {1, 2} or self._trouble % 20 == 0:
            logger.warning("The database does not answer as it should; trying on: %s", error)
        connections.close_all()
        self._look_at, self._was_away = 0.0, True
