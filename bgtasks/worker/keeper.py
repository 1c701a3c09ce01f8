"""The thread of a worker that talks to the queue: it claims, records, hands back and rests.

The only one that does, so that the endings of many rows share a transaction.
"""

from __future__ import annotations

import logging
import os

from django.db import DatabaseError, InterfaceError, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue.listen import Listener, listener
from bgtasks.worker.claiming import Claiming
from bgtasks.worker.handing_back import HandingBack
from bgtasks.worker.options import Options
from bgtasks.worker.recording import Recording
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload

logger = logging.getLogger(__name__)

# Seconds between tries while the database is away: the first, and the longest.
RETRY, LONGEST_RETRY = 0.1, 2.0
# No wait is doubled more often: it would be too long for a float some day.
MOST_DOUBLINGS = 10
# The most seconds that the keeper rests: when it waits for a new row, and when for a run to end.
LONGEST_REST, WAIT = 2 * LONGEST_RETRY, 0.25


class Keeper:
    """Keeps a worker's workload filled, and its endings recorded."""

    def __init__(
        self,
        options: Options,
        work: Workload,
        claiming: Claiming,
        recording: Recording,
        handing_back: HandingBack,
        wakeup: WakeUp,
    ) -> None:
        self._options = options
        self._work = work
        self._claiming = claiming
        self._recording = recording
        self._handing_back = handing_back
        self._wakeup = wakeup
        self._listener: Listener | None = None
        self._stopping = False
        self._tries = 0  # since the database is away
        self._orphaned_at: float | None = None

    def stop(self) -> None:
        """Claim nothing more. Safe in a signal handler."""
        self._stopping = True
        self._wakeup.poke()

    def is_done(self) -> bool:
        """Whether all has ended, and it was stopped or, draining, none is ready."""
        if self._drained:
            self._stopping = True
        if self._stopping:
            self._work.close()
        return self._stopping and self._work.idle

    def work(self) -> None:
        """Record what has ended, hand back what will not start soon, claim what there is room for.

        A database that is away is waited for, by `rest`.
        """
        try:
            self._recording.record_due()
            self._handing_back.hand_back()
            if not self._stopping:
                self._claiming.claim()
            self._tries = 0
        except (DatabaseError, InterfaceError) as error:
            self._database_is_away(error)

    def rest(self) -> None:
        """Return when something is due, when a run has ended, or when a row was enqueued."""
        if self._drained:
            return
        seconds, notified = self._due_in(), None
        try:
            if seconds > 0 and self._asleep:
                notified, seconds = self._listen(seconds)
        except (DatabaseError, InterfaceError) as error:
            self._database_is_away(error)
            seconds, notified = RETRY, None
        if seconds > 0 and not self._work.bell.fall_asleep():
            seconds = 0
        if self._wakeup.wait(seconds, notified):
            self._wake()
        self._work.notify()
        if self._wakeup.orphaned:
            self._outlive_parent()

    def close(self) -> None:
        if self._listener:
            self._listener.close()
        connections.close_all()

    @property
    def _drained(self) -> bool:
        # In this order: what is recorded may have enqueued something.
        return self._options.drain and self._work.idle and self._claiming.drained

    @property
    def _asleep(self) -> bool:
        """Whether nothing but a new row, or the time, gives us something to claim."""
        busy = self._tries or self._stopping
        return not busy and self._claiming.only_time_or_a_new_row_helps

    def _due_in(self) -> float:
        """Seconds until something is due."""
        longest = WAIT if self._stopping or self._work.waiting else LONGEST_REST
        if self._tries:
            doublings = min(self._tries - 1, MOST_DOUBLINGS)
            return min(LONGEST_RETRY, RETRY * 2.0**doublings, longest)
        due = [longest, self._recording.due_in()]
        if not self._stopping:
            due.append(self._claiming.due_in())
        return max(0.0, min(seconds for seconds in due if seconds is not None))

    def _listen(self, seconds: float) -> tuple[int | None, float]:
        """The file by which a notification comes while nothing is ready, and how long to wait."""
        if self._listener is None:
            self._listener = listener()
        if self._listener.prepare():
            self._wake()
            return None, 0
        if self._listener.every is not None:
            seconds = min(seconds, self._listener.every)
        return self._listener.fileno(), seconds

    def _wake(self) -> None:
        self._claiming.wake()
        if self._listener:
            try:
                self._listener.changed()
            except (DatabaseError, InterfaceError) as error:
                self._database_is_away(error)

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
        self._tries += 1
        if self._tries in {1, 2} or self._tries % 20 == 0:
            logger.warning("The database does not answer as it should; trying on: %s", error)
        connections.close_all()
        self._handing_back.database_was_away()
