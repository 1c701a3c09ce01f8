"""Decides when a worker records the endings of its runs, and the progress of running tasks."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError

from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import progress, receivers
from bgtasks.worker.claiming import Claiming
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.workload import Workload

logger = get_logger(__name__)

# As long as more rows are ready to run, endings gather for this many seconds before they are
# recorded, so that one transaction records many.
GATHER = 0.005


class Recording:
    """Takes endings and progress from a workload, and has them recorded.

    Args:
        claiming: is asked to poll again after each recording, for the runs may have enqueued rows.
    """

    def __init__(self, work: Workload, recorder: Recorder, claiming: Claiming) -> None:
        self._work = work
        self._recorder = recorder
        self._claiming = claiming
        self._recorded_at = 0.0
        self._progress_at = -progress.EVERY

    def record_due(self) -> None:
        """Record the endings that have gathered, and the reported progress, if they are due.

        Raises:
            DatabaseError, InterfaceError: the database is away. What is not recorded is kept.
        """
        if self._work.outbox.endings and self._gathering() <= 0:
            self._record_ended()
        if self._work.outbox.reports and self._since_progress() >= progress.EVERY:
            self._progress_at = elapsed()
            self._write_progress()

    def record_here(self) -> bool:
        """Record the endings that have gathered, in a thread that runs rows, if they are due.

        Returns:
            Whether they were due.

        Raises:
            DatabaseError, InterfaceError: the database is away. The keeper will try again.
        """
        if not self._work.outbox.endings or self._gathering(for_keeper=False) > 0:
            return False
        self._record_ended()
        return True

    def due_in(self) -> float | None:
        """Seconds until endings or progress are due; None if there are none."""
        due = []
        if self._work.outbox.endings:
            due.append(self._gathering())
        if self._work.outbox.reports:
            due.append(progress.EVERY - self._since_progress())
        return min(due, default=None)

    def _record_ended(self) -> None:
        self._write_progress()  # it may be the last progress of a run that has ended
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
            for_keeper: whether the keeper asks. If a receiver is connected, the threads that run
                rows record them, so that receivers do not hold up the keeper. Then the keeper
                waits a little longer than they do, and records only what they are too busy for.
        """
        if self._work.closed or not self._work.waiting:
            return 0.0
        later = GATHER if for_keeper and receivers.any_for_success() else 0.0
        return self._recorded_at + GATHER + later - elapsed()

    def _write_progress(self) -> None:
        """Write the progress that tasks have reported.

        If the database refuses it, that is logged, and tasks run on.

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
