"""Records endings in the database, also those that the database refuses at first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from background_task.models import Task
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from bgtasks.logs import get_logger
from bgtasks.models import Attempt
from bgtasks.queue import finish, receivers
from bgtasks.queue.counters import Counts
from bgtasks.queue.ending import Ending
from bgtasks.queue.pacing import Pace
from bgtasks.tasks import policies
from bgtasks.worker.shared_state import Marks

logger = get_logger(__name__)


# What the database raises if it refuses what is to be written, because of the values or of a
# trigger.
REFUSED = (DataError, IntegrityError, InternalError, NotSupportedError, ProgrammingError)
# What it raises if it cannot be reached or cannot work.
AWAY = (OperationalError, InterfaceError)
# The seconds that the receivers of all rows of one transaction should take.
RECEIVERS_TIME = 0.005


class Recorder:
    """Records endings, and removes the marks of their runs.

    Args:
        marks: where the runs are marked as begun.
        pace: limits how many rows one transaction writes.
        counts: counts the runs whose endings are recorded.

    Attributes:
        stuck: ids of rows whose endings the database refuses in any form. They stay claimed, so
            that they do not run again.
    """

    def __init__(self, marks: Marks, pace: Pace, counts: Counts) -> None:
        self._marks = marks
        self._counts = counts
        self._pacing = pace
        self._few = 1
        self.stuck: set[int] = set()

    def record(self, waiting: list[Ending]) -> None:
        """Record endings, many in one transaction where they may share one.

        Args:
            waiting: the endings. Those that are recorded are removed from it.

        Raises:
            DatabaseError, InterfaceError: the database is away; the rest is still in ``waiting``.
        """
        self._settle_recorded(waiting)
        with_receivers = receivers.any_for_success()
        while waiting:
            group = self._group(waiting, with_receivers)
            ids = {id(each) for each in group}
            try:
                with self._pacing.writing() as wrote:
                    self._record_group(group, with_receivers)
                    wrote(len(group))
            except (DatabaseError, InterfaceError):
                # A receiver of this group may be the reason. So the group goes to the end, and the
                # other endings come first the next time.
                self._few = 1
                waiting[:] = [*(each for each in waiting if id(each) not in ids), *group]
                raise
            waiting[:] = [each for each in waiting if id(each) not in ids]

    def _settle_recorded(self, waiting: list[Ending]) -> None:
        """Settle those that were recorded, or lost, in the transaction of their run."""
        if done := [each for each in waiting if each.recorded is not None]:
            self._settle(done, [each.row for each in done if not each.recorded])
            waiting[:] = [each for each in waiting if each.recorded is None]

    def _group(self, waiting: list[Ending], with_receivers: bool) -> list[Ending]:
        """The endings to record next: one that needs its own transaction, or others together."""
        if waiting[0].alone:
            return waiting[:1]
        most = min(self._few, self._pacing.most) if with_receivers else self._pacing.most
        return list(islice((each for each in waiting if not each.alone), most))

    def _record_group(self, group: list[Ending], with_receivers: bool) -> None:
        if group[0].alone:
            self._record_alone(group[0])
        elif with_receivers:
            self._record_with_receivers(group)
        else:
            self._record_together(group)

    def _record_together(self, group: list[Ending]) -> None:
        try:
            self._settle(group, finish.record_successes(group))
        except REFUSED:
            self._record_each_alone(group)

    def _record_with_receivers(self, group: list[Ending]) -> None:
        """Record a group while receivers are connected, and adapt the size of the next group.

        A group has as many rows as their receivers can serve in about `RECEIVERS_TIME`. More than
        one row share a transaction, because it costs more time than most receivers. There should
        be few, because all rows of the group run again if a receiver ends the process.
        """
        try:
            lost, seconds = finish.record_with_receivers(group)
        except AWAY:
            raise
        except Exception:  # an ending cannot be stored, or a receiver broke the transaction
            logger.warning(
                "The endings of %d tasks cannot be recorded together; each is now recorded alone.",
                len(group),
                exc_info=True,
            )
            self._record_each_alone(group)
            self._few = 1
            return
        self._settle(group, lost)
        # `seconds` is the time of the receivers alone. The time of the commit is left out: if it is
        # long, that is a reason for larger groups, not for smaller ones.
        most = int(len(group) * RECEIVERS_TIME / max(seconds, 1e-6))
        self._few = max(1, min(2 * self._few, most))

    def _record_each_alone(self, group: list[Ending]) -> None:
        for ending in group:
            self._record_alone(ending)

    def _record_alone(self, ending: Ending) -> None:
        try:
            kept = finish.record_alone(ending)
        except AWAY:
            raise
        except Exception as error:
            kept = self._record_failure_to_record(ending.row, error)
            if ending.row.pk in self.stuck:
                # Its mark stays. If this process dies, the row counts as begun.
                return
            ending.state, ending.delay, ending.cancelled = Attempt.State.FAILED, None, False
        self._settle([ending], [] if kept else [ending.row])

    def _record_failure_to_record(self, row: Task, error: Exception) -> bool:
        """Record a failure instead of an ending that the database refuses.

        If it refuses that too, the row becomes one of those that are `stuck`.

        Returns:
            Whether the row was still claimed by us.
        """
        logger.error("The ending of %s cannot be recorded.", named(row), exc_info=error)
        story = f"It ran, and its ending could not be recorded: {error!r}"
        try:
            return finish.record_alone(Ending(row, Attempt.State.FAILED, story))
        except AWAY:
            raise
        except Exception:
            logger.exception("%s stays locked.", named(row))
            self.stuck.add(row.pk)
            return True

    def _settle(self, group: Sequence[Ending], lost: Sequence[Task]) -> None:
        """Count the endings that are recorded, remove the marks of all, and log what was lost."""
        for row in lost:
            report_lost(row)
        if lost:
            ids = {id(row) for row in lost}
            self._counts.count(ending for ending in group if id(ending.row) not in ids)
        else:
            self._counts.count(group)
        self._marks.end([ending.mark for ending in group if ending.mark is not None])
        for ending in group:
            ending.mark = None


def report_lost(row: Task) -> None:
    """Log that a row's claim was lost, so that its ending was not recorded."""
    logger.warning(
        "The ending of %s is not recorded: its claim %s was lost meanwhile.%s",
        named(row),
        row.locked_by,
        " What it wrote was rolled back." if policies.of(row.task_name).atomic else "",
    )


def named(row: Task) -> str:
    """A row's name and id, for the log."""
    return f"task {row} (id {row.pk})"
