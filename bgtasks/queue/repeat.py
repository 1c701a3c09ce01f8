"""Repetition: the row of a repeating task enqueues the next one when it has ended."""

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

# What the next run of a repeating row takes over.
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
    """Enqueue the next run of a repeating row; None if it does not repeat, or no longer.

    The arguments are copied as they stand, so the ``task_hash`` stays too.

    Raises:
        NoNextRun: its dates allow none.
    """
    try:
        with transaction.atomic(using=db.alias()):  # a date may fail to be fetched
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
            Task.objects.using(db.alias()).bulk_create([following])  # receivers told by us
    except (DataError, IntegrityError) as error:
        raise NoNextRun(f"the next run cannot be stored ({error})") from error
    creators.copy(row, following)
    if policies.of(row.task_name).unique is not False:
        unique.pass_on(row.pk, following.pk)
    receivers.saved(following, created=True)
    receivers.send(signals.task_created, type(upstream.tasks._runner), task=following)
    return following


def _following(row: Task, run_at: datetime) -> Task:
    return Task(run_at=run_at, **{name: getattr(row, name) for name in REPEATED})


def next_run(run_at: datetime, repeat: int, now: datetime) -> datetime:
    """The first slot after ``run_at``, a multiple of ``repeat`` seconds on, that is not past.

    Slots that were missed are skipped; the phase is kept.

    Raises:
        OverflowError: the next slot lies beyond the calendar.
    """
    step = timedelta(seconds=repeat)
    slots = max(1, math.ceil((now - run_at) / step))
    return run_at + step * slots
