"""How far running tasks have come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.models import Progress
from bgtasks.queue import database as db
from bgtasks.tasks.current import CurrentTask
from bgtasks.tasks.current import Progress as Told

TABLE = Progress._meta.db_table
# Seconds between writes.
EVERY = 0.5


def write(tasks: Sequence[CurrentTask]) -> None:
    """Write what tasks have told, where their claims still hold their rows."""
    told = [(task, told) for task in tasks if (told := task.take_progress()) is not None]
    if not told:
        return
    given, params = db.given([task.row for task, _ in told])
    held = dict(
        db.fetch(
            f"SELECT {db.TASKS}.id, locked_by FROM {given} JOIN {db.TASKS} "
            f"ON {db.TASKS}.id = given.id AND {db.is_held_as_given()}",
            params,
        )
    )
    now = timezone.now()
    # Of an earlier run of the same row a thread may be left over, and still tell.
    rows = {
        task.id: _row(task, told, now)
        for task, told in told
        if task.id in held and held[task.id] == task.row.locked_by
    }
    Progress.objects.using(db.alias()).bulk_create(
        list(rows.values()),
        update_conflicts=True,
        unique_fields=["task_id"],
        update_fields=["attempt", "done", "total", "message", "updated_at"],
    )


def _row(task: CurrentTask, told: Told, now: datetime) -> Progress:
    return Progress(
        task_id=task.row.pk,
        attempt=task.attempt,
        done=told.done,
        total=told.total,
        message=db.storable(told.message),
        updated_at=now,
    )


def read(task_id: int) -> Told | None:
    """What a task has told last; None if its latest run has told nothing."""
    latest = (
        f"COALESCE((SELECT attempts FROM {db.TASKS} WHERE id = {TABLE}.task_id), "
        f"(SELECT attempts FROM {db.OUTCOMES} WHERE task_id = {TABLE}.task_id), attempt)"
    )
    found = db.fetch(
        f"SELECT done, total, message FROM {TABLE} WHERE task_id = %s AND attempt = {latest}",
        [task_id],
    )
    return Told(*found[0]) if found else None


def _in_event_loop() -> bool:
    """Where nothing may wait for a database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Unattended:
    """The reports of a task that runs without a worker: written in the task's own thread.

    The first is written at once and the next ones not too often, so that the last one before the
    task ends may not be written.
    """

    def __init__(self) -> None:
        self._written_at = -EVERY

    def put(self, task: CurrentTask) -> None:
        if elapsed() - self._written_at < EVERY or _in_event_loop():
            task.take_progress()  # so that it reports again
            return
        self._written_at = elapsed()
        try:
            write([task])
        except (DatabaseError, InterfaceError):
            if db.connection().in_atomic_block:
                raise
