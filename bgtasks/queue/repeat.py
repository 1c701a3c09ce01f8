"""Repetition: when the row of a repeating task has ended, a row for its next run is enqueued."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from background_task import signals
from background_task import tasks as upstream
from background_task.models import Task
from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from bgtasks.exceptions import NoNextRun
from bgtasks.queue import call_options, creators, receivers, unique
from bgtasks.queue import database as db
from bgtasks.tasks import policies

# The columns that the row of the next run has in common with the one that has ended.
REPEATED = (
    "task_name",
    "task_params",
    "task_hash",
    "priority",
    "queue",
    "verbose_name",
    "repeat",
    "repeat_until",
    "creator_content_type_id",
    "creator_object_id",
)


def repeat(row: Task) -> Task | None:
    """Enqueue the next run of a repeating row.

    The text of the arguments is copied unchanged, and so is the ``task_hash``.

    Returns:
        The new row; None if this one does not repeat, or its ``repeat_until`` comes first.

    Raises:
        NoNextRun: the dates of the row, or the database, allow no next run.
    """
    try:
        with transaction.atomic(using=db.alias()):  # fetching a date that Python cannot hold fails
            if row.repeat <= 0:
                return None
            run_at = next_run(call_options.slot(row), row.repeat, timezone.now())
            if row.repeat_until and row.repeat_until < run_at:
                return None
            following = _following(row, run_at)
    except (ArithmeticError, ValueError, TypeError, DataError) as error:
        raise NoNextRun(f"no next run {row.repeat} s on ({error})") from error
    receivers.saving(following)
    try:
        with transaction.atomic(using=db.alias()):
            # Unlike save(), bulk_create() sends no signals: we send them around it.
            Task.objects.using(db.alias()).bulk_create([following])
    except (DataError, IntegrityError) as error:
        raise NoNextRun(f"the next run cannot be stored ({error})") from error
    creators.copy(row, following)
    if policies.of(row.task_name).unique is not False:
        unique.pass_on(row, following)
    receivers.saved(following, created=True)
    receivers.send(signals.task_created, type(upstream.tasks._runner), task=following)
    return following


def _following(row: Task, run_at: datetime) -> Task:
    following = Task(run_at=run_at, **{name: getattr(row, name) for name in REPEATED})
    following.task_params = call_options.without_mark(row.task_params)
    return following


def next_run(run_at: datetime, repeat: int, now: datetime) -> datetime:
    """The first time from ``now`` on that lies a multiple of ``repeat`` seconds after ``run_at``.

    The multiple is at least one. Times that were missed are skipped, and the phase is kept.

    Raises:
        OverflowError: that time lies beyond the last date that Python can hold.
    """
    step = timedelta(seconds=repeat)
    slots = max(1, math.ceil((now - run_at) / step))
    return run_at + step * slots
