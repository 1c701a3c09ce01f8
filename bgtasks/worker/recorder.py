"""Writing down what runs came to, whatever the database makes of it."""

from __future__ import annotations

import logging
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

from bgtasks.models import Attempt
from bgtasks.queue import finish, receivers
from bgtasks.queue.ending import Ending
from bgtasks.worker.pacing import Pace
from bgtasks.worker.shared_state import Marks

logger = logging.getLogger(__name__)


# What the database raises of what it is told to write, rather than of itself; a trigger may.
REFUSED = (DataError, IntegrityError, InternalError, NotSupportedError, ProgrammingError)
AWAY = (OperationalError, InterfaceError)
# Seconds of receivers in one transaction.
GROUP = 0.005


class Recorder:
    """Records endings and takes their marks away. Raises only what a lost database raises.

    Args:
        marks: where the runs are marked as begun.
        pace: how many rows at once.
    """

    def __init__(self, marks: Marks, pace: Pace) -> None:
        self._marks = marks
        self._pacing = pace
        self._few = 1
        # Rows whose endings the database will not have; they stay ours, and do not run again.
        self.stuck: set[int] = set()

    def record(self, waiting: list[Ending]) -> None:
        """Record endings, in groups where that harms nobody.

        Args:
            waiting: what is recorded is taken out of it.

        Raises:
            DatabaseError, InterfaceError: the database is away; the rest is still in ``waiting``.
        """
        heard = receivers.any_for_success()
        while waiting:
            group = self._group(waiting, heard)
            ids = {id(each) for each in group}
            try:
                with self._pacing.writing() as wrote:
                    self._record(group, heard)
                    wrote(len(group))
            except (DatabaseError, InterfaceError):
                # Should it be their receivers' doing, let the others go first the next time.
                self._few = 1
                waiting[:] = [*(each for each in waiting if id(each) not in ids), *group]
                raise
            waiting[:] = [each for each in waiting if id(each) not in ids]

    def _group(self, waiting: list[Ending], heard: bool) -> list[Ending]:
        """What to record next: one that is recorded alone, or all others that may go together."""
        if waiting[0].alone:
            return waiting[:1]
        most = min(self._few, self._pacing.most) if heard else self._pacing.most
        return list(islice((each for each in waiting if not each.alone), most))

    def _record(self, group: list[Ending], heard: bool) -> None:
        if group[0].alone:
            self._alone(group[0])
        elif heard:
            self._heard(group)
        else:
            self._together(group)

    def _together(self, group: list[Ending]) -> None:
        try:
            self._settle(group, finish.record_successes(group))
        except REFUSED:
            self._one_by_one(group)

    def _heard(self, group: list[Ending]) -> None:
        """Somebody listens to these: as many in a transaction as their receivers take `GROUP` for.

        More than one, for the transaction costs more than most receivers; few, for should one of
        them end the process, all of the group run again.
        """
        try:
            lost, seconds = finish.record_with_receivers(group)
        except AWAY:
            raise
        except Exception:  # one cannot be stored, or a receiver broke the transaction
            logger.warning(
                "The endings of %d tasks cannot be recorded together; each is now recorded alone.",
                len(group),
                exc_info=True,
            )
            self._one_by_one(group)
            self._few = 1
            return
        self._settle(group, lost)
        # By what receivers take alone: where commits are slow, more rows should share one.
        self._few = max(1, min(2 * self._few, int(len(group) * GROUP / max(seconds, 1e-6))))

    def _one_by_one(self, group: list[Ending]) -> None:
        for ending in group:
            self._alone(ending)

    def _alone(self, ending: Ending) -> None:
        try:
            kept = finish.record_alone(ending)
        except AWAY:
            raise
        except Exception as error:
            kept = self._record_failure_to_record(ending.row, error)
            if ending.row.pk in self.stuck:
                return  # with its mark: it has begun, should its process end
        self._settle([ending], [] if kept else [ending.row])

    def _record_failure_to_record(self, row: Task, error: Exception) -> bool:
        """For an ending that the database will not have, whatever else it would have."""
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
        for row in lost:
            report_lost(row)
        self._marks.end([ending.mark for ending in group if ending.mark is not None])
        for ending in group:
            ending.mark = None


def report_lost(row: Task) -> None:
    logger.warning(
        "The ending of %s is not recorded: its claim %s was lost meanwhile.",
        named(row),
        row.locked_by,
    )


def named(row: Task) -> str:
    return f"task {row} (id {row.pk})"
