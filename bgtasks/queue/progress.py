"""Storing and reading the progress that running tasks report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import isfinite
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.models import Progress
from bgtasks.queue import database as db
from bgtasks.tasks.current import CurrentTask
from bgtasks.tasks.current import Progress as Reported

TABLE = Progress._meta.db_table
# Seconds between two writes of a task's progress.
EVERY = 0.5


def write(tasks: Sequence[CurrentTask]) -> None:
    """Store the progress that tasks have reported, where their claims still hold their rows."""
    reports = [(task, report) for task in tasks if (report := task.take_progress()) is not None]
    if not reports:
        return
    given, params = db.given([task.row for task, _ in reports])
    held = dict(
        db.fetch(
            f"SELECT {db.TASKS}.id, locked_by FROM {given} JOIN {db.TASKS} "
            f"ON {db.TASKS}.id = given.id AND {db.is_held_as_given()}",
            params,
        )
    )
    now = timezone.now()
    # A thread of an earlier run of the same row may be left over and still report.
    rows = {
        task.id: _row(task, report, now)
        for task, report in reports
        if task.id in held and held[task.id] == task.row.locked_by
    }
    Progress.objects.using(db.alias()).bulk_create(
        list(rows.values()),
        update_conflicts=True,
        unique_fields=["task_id"],
        update_fields=["attempt", "done", "total", "message", "updated_at", "claim", "claim_of"],
    )


def _row(task: CurrentTask, report: Reported, now: datetime) -> Progress:
    return Progress(
        task_id=task.row.pk,
        attempt=task.attempt,
        done=report.done,
        total=report.total,
        message=db.storable(report.message),
        updated_at=now,
        claim=task.row.locked_by,
        claim_of=now,
    )


_WAITING_OR_RUNNING = f"EXISTS (SELECT 1 FROM {db.TASKS} WHERE id = {TABLE}.task_id)"
# SQL for the number of the task's latest run, and for the claim that the row had in it. Of a row
# that waits to be tried again, the claim stands in the attempt.
_LATEST = (
    f"COALESCE((SELECT attempts FROM {db.TASKS} WHERE id = {TABLE}.task_id), "
    f"(SELECT attempts FROM {db.OUTCOMES} WHERE task_id = {TABLE}.task_id), attempt)"
)
_CLAIM = (
    f"CASE WHEN {_WAITING_OR_RUNNING} THEN COALESCE("
    f"(SELECT locked_by FROM {db.TASKS} WHERE id = {TABLE}.task_id), "
    f"(SELECT tried.claim FROM {db.ATTEMPTS} AS tried WHERE tried.task_id = {TABLE}.task_id "
    "ORDER BY tried.id DESC LIMIT 1), '') "
    f"ELSE COALESCE((SELECT locked_by FROM {db.OUTCOMES} JOIN {db.COMPLETED} "
    f"ON {db.COMPLETED}.id = completed_id WHERE {db.OUTCOMES}.task_id = {TABLE}.task_id), "
    "claim) END"
)
# If the task table was emptied, a new row may have the id of an older one. Its claim is another.
# An older version of bgtasks, which may run beside this one, stores a report and leaves the claim
# of an earlier one where it stands: that says nothing. (The number of the attempt would not show
# it, for a run that was stopped is not counted.)
_OF_ITS_LATEST_RUN = (
    f"attempt = {_LATEST} AND (claim IS NULL OR claim_of IS NULL OR claim_of <> updated_at "
    f"OR claim = {_CLAIM})"
)


def read(task_id: int) -> Reported | None:
    """The progress that a task has reported last; None if its latest run has reported none."""
    return read_many([task_id]).get(task_id)


def read_many(ids: Iterable[int]) -> dict[int, Reported]:
    """The progress that each of these tasks has reported last, as `read` gives it, by their ids."""
    sql = (
        f"SELECT task_id, done, total, message FROM {TABLE} "
        f"WHERE {db.is_member('task_id', 'bigint')} AND {_OF_ITS_LATEST_RUN}"
    )
    return {pk: _reported(*values) for pk, *values in db.fetch(sql, [db.members(ids)])}


def _reported(done: Any, total: Any, message: Any) -> Reported:
    """The progress as it is stored, or a mark in its place if its numbers cannot be read."""
    numbers = [value for value in (done, total) if value is not None]
    if all(isinstance(value, float | int) and isfinite(value) for value in numbers):
        return Reported(done, total, message if isinstance(message, str) else str(message))
    return Reported(0.0, None, f"(this progress cannot be read: {done!r:.30} of {total!r:.30})")


def keep(task_id: int, claim: str) -> None:
    """Keep the progress of a row's latest run although another claim is about to take the row."""
    db.execute(
        f"UPDATE {TABLE} SET claim = %s, claim_of = updated_at "
        f"WHERE task_id = %s AND {_OF_ITS_LATEST_RUN}",
        [claim, task_id],
    )


def _in_event_loop() -> bool:
    """Whether this thread runs an event loop, in which nothing may wait for a database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Unattended:
    """Stores the progress of a task that runs outside of a worker, in the task's own thread.

    It writes the first report at once, and then at most one in `EVERY` seconds. So the last report
    before the end may be missing, unless the caller stores that with `write`.
    """

    def __init__(self) -> None:
        self._written_at = -EVERY

    def put(self, task: CurrentTask) -> None:
        if elapsed() - self._written_at < EVERY or _in_event_loop():
            task.take_progress()  # without that, the task would not report again
            return
        self._written_at = elapsed()
        try:
            write([task])
        except (DatabaseError, InterfaceError):
            if db.connection().in_atomic_block:
                raise
