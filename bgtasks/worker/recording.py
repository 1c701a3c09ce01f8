"""When a worker records what its runs have come to, and how far running tasks have come."""

from __future__ import annotations

import logging

from django.db import InterfaceError, OperationalError

from bgtasks.clock import elapsed
from bgtasks.queue import progress, receivers
from bgtasks.worker.claiming import Claiming
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.workload import Workload

logger = logging.getLogger(__name__)

# While more rows are ready, endings gather for this many seconds before they are recorded.
GATHER = 0.005


class Recording:
    """Takes endings and progress from a workload, and has them recorded.

    Args:
        claiming: polls again after a recording, for the tasks may have enqueued something.
    """

    def __init__(self, work: Workload, recorder: Recorder, claiming: Claiming) -> None:
        self._work = work
        self._recorder = recorder
        self._claiming = claiming
        self._recorded_at = 0.0
        self._progress_at = -progress.EVERY

    def record_due(self) -> None:
        """Record the endings that have gathered, and write the progress, if it is time.

        Raises:
            DatabaseError, InterfaceError: the database is away. What is not recorded is kept.
        """
        if self._work.outbox.endings and self._gathering() <= 0:
            self._record()
        if self._work.outbox.reports and self._since_progress() >= progress.EVERY:
            self._progress_at = elapsed()
            self._write_progress()

    def record_here(self) -> bool:
        """Record the endings that have gathered, in the thread that ran them, if it is time.

        Returns:
            Whether it was.

        Raises:
            DatabaseError, InterfaceError: the database is away; the keeper goes on trying.
        """
        if not self._work.outbox.endings or self._gathering(for_keeper=False) > 0:
            return False
        self._record()
        return True

    def due_in(self) -> float | None:
        """Seconds until something is to be recorded; None if there is nothing."""
        due = []
        if self._work.outbox.endings:
            due.append(self._gathering())
        if self._work.outbox.reports:
            due.append(progress.EVERY - self._since_progress())
        return min(due, default=None)

    def _record(self) -> None:
        self._write_progress()  # the last progress of what has ended may be among it
        taken = self._work.take_ended()
        rest = list(taken)
        try:
            self._recorder.record(rest)
        finally:
            self._claiming.poll_again()
            self._recorded_at = elapsed()
            self._work.put_back(taken, rest)

    def _gathering(self, for_keeper: bool = True) -> float:
        """Seconds for which endings still gather before they are recorded.

        Args:
            for_keeper: the keeper asks. Where a receiver is connected, it leaves the recording to
                the threads that ran the rows, and comes in when they are too busy.
        """
        if self._work.closed or not self._work.waiting:
            return 0.0
        later = GATHER if for_keeper and receivers.any_for_success() else 0.0
        return self._recorded_at + GATHER + later - elapsed()

    def _write_progress(self) -> None:
        """Write what tasks have reported. What cannot be written is no reason not to run tasks.

        Raises:
            OperationalError, InterfaceError: the database is away.
        """
        if reported := self._work.outbox.reports.take():
            try:
                progress.write(reported)
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                logger.exception("The progress of %d tasks is not recorded.", len(reported))

    def _since_progress(self) -> float:
        return elapsed() - self._progress_at
