"""What a worker hands back to the queue: rows that it has claimed and will not start soon."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db import DatabaseError, InterfaceError

from bgtasks.clock import elapsed
from bgtasks.queue import claims
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.claims import Claimant
from bgtasks.queue.rescue import suspect
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.workload import Workload

# Seconds between looks for rows that we hold and know nothing of; the second after an outage.
LOOK, LOOK_AGAIN = 60.0, 5.0


class HandingBack:
    """Hands rows of a workload back to the queue.

    Args:
        claimant: in whose name they were claimed.
    """

    def __init__(self, claimant: Claimant, work: Workload, recorder: Recorder) -> None:
        self._claimant = claimant
        self._work = work
        self._recorder = recorder
        self._look_at = elapsed() + LOOK
        self._was_away = False

    def hand_back(self) -> None:
        """Hand back what waits behind tasks that run long, and what we hold unknowingly."""
        rows = self._work.overripe()
        suspects = [claimed for claimed in rows if suspect(claimed.row)]
        # Not to be claimed again at once: they cannot start beside what runs here.
        self.release(suspects, claims.SUSPECTS_WAIT)
        self.release([claimed for claimed in rows if claimed not in suspects])
        if elapsed() >= self._look_at:
            self._release_unknown()

    def release(self, rows: Sequence[ClaimedRow], delay: timedelta | None = None) -> None:
        """Hand rows back that have not started.

        Args:
            delay: nobody claims them before it is over.

        Raises:
            DatabaseError, InterfaceError: the database is away. We keep the rows.
        """
        try:
            claims.release([claimed.row for claimed in rows], delay)
        except (DatabaseError, InterfaceError):
            for claimed in rows:  # the release may have been carried out: confirm before the start
                claimed.claimed_at = 0.0
            self._work.add(rows)  # to try again
            raise

    def database_was_away(self) -> None:
        """A claim whose answer was lost may have been carried out: look for its rows soon."""
        self._look_at, self._was_away = 0.0, True

    def _release_unknown(self) -> None:
        ours = self._work.held() | self._recorder.stuck
        claims.release_unknown(self._claimant.prefix, ours)
        # The server may take a moment to notice that nobody listens, and carry it out later.
        self._look_at = elapsed() + (LOOK_AGAIN if self._was_away else LOOK)
        self._was_away = False
