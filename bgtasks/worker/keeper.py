"""The thread of a worker that talks to the queue: it claims, records, hands back and rests.

One thread does all of that, so that one transaction records the endings of many rows.
"""

from __future__ import annotations

import os
import signal

from django.db import DatabaseError, InterfaceError, connections, reset_queries

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue.counters import Counts
from bgtasks.queue.listen import Listener, listener
from bgtasks.worker.claiming import Claiming
from bgtasks.worker.options import Options
from bgtasks.worker.parts import HandingBack, Recording, Work
from bgtasks.worker.wakeup import WakeUp

logger = get_logger(__name__)

# Seconds between attempts to reach the database while it is away: at first, and at most. The
# seconds double each time, `MOST_DOUBLINGS` times: 2.0 to the power of a larger number of attempts
# would overflow.
FIRST_RETRY, LONGEST_RETRY = 0.1, 2.0
MOST_DOUBLINGS = 10
# The most seconds that the keeper rests: if it only waits for new rows, and if claimed rows wait
# to be started or the worker is stopping.
LONGEST_REST, LONGEST_BUSY_REST = 2 * LONGEST_RETRY, 0.25


class Keeper:
    """Fills a worker's workload and has its endings recorded. See `work` and `rest`."""

    def __init__(
        self,
        options: Options,
        work: Work,
        claiming: Claiming,
        recording: Recording,
        handing_back: HandingBack,
        wakeup: WakeUp,
        counts: Counts,
    ) -> None:
        self._options = options
        self._work = work
        self._claiming = claiming
        self._recording = recording
        self._handing_back = handing_back
        self._wakeup = wakeup
        self._counts = counts
        self._listener: Listener | None = None
        self._stopping = self._was_busy = False
        self._tries = 0  # attempts in a row to which the database has not answered
        self._orphaned_at: float | None = None

    def stop(self) -> None:
        """Claim nothing more. Safe in a signal handler."""
        self._stopping = True
        self._wakeup.poke()

    def is_done(self) -> bool:
        """Whether the worker may end: it is stopping or has drained the queue, and nothing runs.

        When it begins to stop, this closes the workload.
        """
        if self._drained:
            self._stopping = True
        if self._stopping:
            self._work.close()
        return self._stopping and self._work.idle

    def work(self) -> None:
        """Record the endings, hand back rows that will not start soon, claim rows if there is room.

        If the database does not answer, this logs it, and `rest` waits before the next attempt.
        """
        try:
            self._recording.record_due()
            self._handing_back.hand_back()
            if not self._stopping:
                self._claiming.claim()
            self._counts.flush_if_due()
            self._tries = 0
            reset_queries()  # with DEBUG, Django keeps each statement
        except (DatabaseError, InterfaceError) as error:
            self._database_is_away(error)

    def rest(self) -> None:
        """Sleep until something is due, the bell rings, or a notification or a poke arrives."""
        if self._drained:
            return
        seconds, notified = self._due_in(), None
        try:
            if not self._asleep:
                self._was_busy = True
            elif seconds > 0:
                notified, seconds = self._listen(seconds)
        except (DatabaseError, InterfaceError) as error:
            self._database_is_away(error)
            seconds, notified = FIRST_RETRY, None
        if seconds > 0 and not self._work.bell.fall_asleep():
            seconds = 0
        if self._wakeup.wait(seconds, notified):
            self._wake()
        self._work.notify()
        if self._wakeup.orphaned:
            self._outlive_parent()

    def close(self) -> None:
        """Write the last counts, stop listening, and close this thread's connections."""
        self._counts.flush()
        if self._listener:
            self._listener.close()
        connections.close_all()

    @property
    def _drained(self) -> bool:
        # `idle` is asked first. A run that ended before that may have enqueued a row, and after its
        # recording `drained` is false until the queue was polled again.
        return self._options.drain and self._work.idle and self._claiming.drained

    @property
    def _asleep(self) -> bool:
        """Whether there is nothing to claim until a row is enqueued or becomes due."""
        busy = self._tries or self._stopping
        return not busy and self._claiming.only_time_or_a_new_row_helps

    def _due_in(self) -> float:
        """Seconds until something is due."""
        longest = LONGEST_BUSY_REST if self._stopping or self._work.waiting else LONGEST_REST
        if self._tries:
            doublings = min(self._tries - 1, MOST_DOUBLINGS)
            return min(LONGEST_RETRY, FIRST_RETRY * 2.0**doublings, longest)
        due = [longest, self._recording.due_in()]
        if not self._stopping:
            due.append(self._claiming.due_in())
        return max(0.0, min(seconds for seconds in due if seconds is not None))

    def _listen(self, seconds: float) -> tuple[int | None, float]:
        """Begin to listen for notifications, or go on.

        Returns:
            The descriptor that becomes readable with a notification, or None; and for how many
            seconds to wait, at most `seconds`. That is 0 if a notification may have been missed.
        """
        if self._listener is None:
            self._listener = listener()
        if self._was_busy:
            self._was_busy = False
            self._listener.restart()
        if self._listener.prepare():
            if self._listener.is_told:
                self._wake()
            else:
                self._claiming.poll_again()  # once: there was no write that others may follow
            return None, 0
        if self._listener.every is not None:
            seconds = min(seconds, self._listener.every)
        return self._listener.fileno(), seconds

    def _wake(self) -> None:
        """Poll the queue now, and consume the notifications that have arrived."""
        self._claiming.wake()
        if self._listener:
            try:
                self._listener.changed()
            except (DatabaseError, InterfaceError) as error:
                self._database_is_away(error)

    def _outlive_parent(self) -> None:
        """End this process, whose parent has died, before its lease runs out.

        Nobody renews the lease now, so other workers will take the rows when it has run out. Runs
        have half of the lease to end by themselves.
        """
        now = elapsed()
        if self._orphaned_at is None:
            logger.error(
                "The supervisor of process %d is gone. The process ends; its running tasks have "
                "half of its lease to finish.",
                os.getpid(),
            )
            self._orphaned_at = now
            self._stopping = True
        if now - self._orphaned_at > conf.lease() / 2:
            if os.getpgrp() == os.getpid():  # what its tasks have started ends with it
                os.killpg(os.getpid(), signal.SIGKILL)
            os._exit(1)

    def _database_is_away(self, error: Exception) -> None:
        self._tries += 1
        if self._tries in {1, 2} or self._tries % 20 == 0:
            logger.warning("The database does not answer as it should; trying again: %s", error)
        connections.close_all()
        self._handing_back.database_was_away()
