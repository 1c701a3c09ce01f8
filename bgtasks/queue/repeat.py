"""Repetition: when the row of a repeating task has ended, a row for its next run is enqueued.

While it is paused, that row waits for a day that is far away, and its options keep its time table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from background_task import signals
from background_task import tasks as upstream
from background_task.models import Task
from django.db import DataError, IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from bgtasks.exceptions import NoNextRun
from bgtasks.queue import call_options, creators, deliveries, notify, receivers, unique
from bgtasks.queue import database as db
from bgtasks.tasks import policies

# The ``run_at`` of a row that is paused, and the option that says since when it is.
HELD = datetime(9000, 1, 1, tzinfo=UTC)
PAUSED = "paused_at"
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
            given = call_options.load(row)
            run_at = next_run(call_options.slot(row, given), row.repeat, timezone.now())
            if row.repeat_until and row.repeat_until < run_at:
                return None
            following, options = _following(row, run_at, given)
    except (ArithmeticError, ValueError, TypeError, DataError) as error:
        raise NoNextRun(f"no next run {row.repeat} s on ({error})") from error
    receivers.saving(following)
    try:
        with transaction.atomic(using=db.alias()):
            # Unlike save(), bulk_create() sends no signals: we send them around it.
            Task.objects.using(db.alias()).bulk_create([following])
            call_options.insert(following, options)
    except (DataError, IntegrityError) as error:
        raise NoNextRun(f"the next run cannot be stored ({error})") from error
    creators.copy(row, following)
    if policies.of(row.task_name).unique is not False:
        unique.pass_on(row, following)
    receivers.saved(following, created=True)
    receivers.send(signals.task_created, type(upstream.tasks._runner), task=following)
    return following


def _following(
    row: Task, run_at: datetime, given: Mapping[str, Any]
) -> tuple[Task, dict[str, Any]]:
    """The row of the next run, and the options of that: it is paused as the one before it."""
    following = Task(run_at=run_at, **{name: getattr(row, name) for name in REPEATED})
    following.task_params = call_options.without_mark(row.task_params)
    options: dict[str, Any] = {}
    if PAUSED in given:  # then this run was one that somebody asked for
        options = {PAUSED: given[PAUSED], "slot": run_at.isoformat()}
        following.run_at = _held(run_at)
        call_options.announce(following, options)
    return following, options


def _held(run_at: datetime) -> datetime:
    return HELD if timezone.is_aware(run_at) else HELD.replace(tzinfo=None)


def pause(task_id: int) -> bool:
    """Have a repeating row not run until `resume`; returns whether it was changed.

    One that a worker has is left as it is, and one whose dates cannot be read.
    """
    with transaction.atomic(using=db.alias()):
        row = _waiting(task_id)
        if row is None or PAUSED in call_options.load(row):
            return False
        call_options.keep_slot(row)
        call_options.put(row, PAUSED, datetime.now(UTC).isoformat())
        Task.objects.using(db.alias()).filter(pk=row.pk).update(run_at=_held(row.run_at))
        return True


def resume(task_id: int) -> bool:
    """Have a paused row run again, at the next time of its time table; returns whether it was.

    What came in between is not made up for. One whose options cannot be read is left as it is.
    """
    with suppress(ArithmeticError, ValueError, TypeError):
        return _resume(task_id)
    return False


def _resume(task_id: int) -> bool:
    with transaction.atomic(using=db.alias()):
        row = _waiting(task_id)
        if row is None or PAUSED not in (options := call_options.load(row)):
            return False
        run_at, now = call_options.slot(row, options), timezone.now()
        if run_at < now:
            run_at = next_run(run_at, row.repeat, now)
        call_options.remove(row, PAUSED, "slot")
        Task.objects.using(db.alias()).filter(pk=row.pk).update(run_at=run_at)
        notify.notify_workers()
        return True


def _waiting(task_id: int) -> Task | None:
    """A repeating row that waits, locked for this transaction; None if there is none."""
    rows = Task.objects.using(db.alias()).filter(deliveries.waiting(), pk=task_id, repeat__gt=0)
    # This writes first, which locks the row.
    rows = rows.extra(where=[f"NOT COALESCE({db.has_odd_date(Task)}, 1 = 0)"])  # noqa: S610
    return rows.first() if rows.update(repeat=F("repeat"), **deliveries.RECALLED) else None


def paused(rows: Iterable[Task]) -> dict[int, datetime]:
    """Since when rows are paused, by their ids."""
    given = call_options.load_many(rows)
    return {pk: _date(each[PAUSED]) for pk, each in given.items() if PAUSED in each}


def _date(text: Any) -> datetime:
    """A date as an option has it; the beginning of 1970 if somebody has written something else."""
    try:
        return datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return datetime.fromtimestamp(0, UTC)


def next_run(run_at: datetime, repeat: int, now: datetime) -> datetime:
    """The first time from ``now`` on that lies a multiple of ``repeat`` seconds after ``run_at``.

    The multiple is at least one. Times that were missed are skipped, and the phase is kept.

    Raises:
        OverflowError: that time lies beyond the last date that Python can hold.
    """
    step = timedelta(seconds=repeat)
    slots = max(1, math.ceil((now - run_at) / step))
    return run_at + step * slots
