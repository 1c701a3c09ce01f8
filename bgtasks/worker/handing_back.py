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

# Seconds until the database is asked again for rows that this child has claimed without knowing
# it: as a rule, and after an outage.
UNKNOWN_EVERY, UNKNOWN_AFTER_OUTAGE = 60.0, 5.0


class HandingBack:
    """Hands rows of a workload back to the queue.

    Args:
        claimant: the child whose name stands in their claims.
    """

    def __init__(self, claimant: Claimant, work: Workload, recorder: Recorder) -> None:
        self._claimant = claimant
        self._work = work
        self._recorder = recorder
        self._unknown_at = elapsed() + UNKNOWN_EVERY
        self._was_away = False

    def hand_back(self) -> None:
        """Hand back rows that wait behind long runs, and rows that are claimed unknown to us.

        Raises:
            DatabaseError, InterfaceError: the database does not answer. Nothing is lost.
        """
        rows = self._work.overripe()
        suspects = [claimed for claimed in rows if suspect(claimed.row)]
        # Suspects must run alone, and other rows run here. The delay gives another worker time to
        # claim them before this one would do so again.
        self.release(suspects, claims.SUSPECTS_WAIT)
        self.release([claimed for claimed in rows if claimed not in suspects])
        if elapsed() >= self._unknown_at:
            self._release_unknown()

    def release(self, rows: Sequence[ClaimedRow], delay: timedelta | None = None) -> None:
        """Hand rows back that have not started.

        Args:
            delay: how long nobody can claim them; None: anybody can at once.

        Raises:
            DatabaseError, InterfaceError: the database does not answer. The rows are put back into
                the workload.
        """
        try:
            claims.release([claimed.row for claimed in rows], delay)
        except (DatabaseError, InterfaceError):
            # The release may have been carried out all the same, and only its answer lost. So the
            # runner must confirm these rows before it starts one.
            for claimed in rows:
                claimed.claimed_at = 0.0
            self._work.add(rows)
            raise

    def database_was_away(self) -> None:
        """Ask soon for rows that a claim has taken whose answer was lost with the connection."""
        self._unknown_at, self._was_away = 0.0, True

    def _release_unknown(self) -> None:
        known = self._work.held() | self._recorder.stuck
        claims.release_unknown(self._claimant.prefix, known)
        # A server that does not notice at once that the connection is lost may carry the claim out
        # after this. So the first repetition comes sooner.
        self._unknown_at = elapsed() + (UNKNOWN_AFTER_OUTAGE if self._was_away else UNKNOWN_EVERY)
        self._was_away = False
