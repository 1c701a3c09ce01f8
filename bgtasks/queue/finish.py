"""Recording an ending: the row moves to the completed ones, or back into the queue.

Everything here is fenced: it changes a row only while its ``locked_by`` is still the claim
that ran it. A write that comes too late changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from background_task import signals
from background_task.models import CompletedTask, Task
from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.exceptions import BrokenTransaction, NoNextRun
from bgtasks.logs import get_logger
from bgtasks.models import Attempt, Outcome
from bgtasks.queue import (
    call_options,
    claims,
    enqueue,
    families,
    finish_sql,
    notify,
    partitions,
    receivers,
    run_log,
)
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending
from bgtasks.queue.repeat import repeat

logger = get_logger(__name__)


def record_successes(endings: Sequence[Ending]) -> list[Task]:
    """Record plain successes, all in one transaction. No signal is sent.

    Returns:
        The rows that our claims no longer held. Nothing was changed for those.
    """
    rows = [ending.row for ending in endings]
    into = partitions.place()
    if db.on_postgresql() and not Task._meta.related_objects:
        families.write(endings)  # before: it can be repeated, and the finish cannot
        kept = finish_sql.finish_at_once(endings, into)
    else:
        with transaction.atomic(using=db.alias()):
            families.write(endings)
            written = finish_sql.write_outcomes(endings, Outcome.State.SUCCEEDED, into)
            kept = [task_id for task_id, _ in written]
            finish_sql.copy(kept, None, "", into)
            finish_sql.remove(kept)
            notify.notify_waiters(kept)
    if len(kept) == len(rows):
        return []
    still_ours = set(kept)
    return [row for row in rows if row.pk not in still_ours]


def record_alone(ending: Ending) -> bool:
    """Record any ending, with its signals, in a transaction of its own.

    One that was recorded by `record_in_transaction` stays as it is.

    Returns:
        Whether our claim still held the row. If not, nothing was changed.
    """
    if ending.recorded is not None:
        return ending.recorded
    if ending.snoozed:
        families.write([ending])
        return bool(claims.release([ending.row], ending.delay))
    before = dict(ending.row.__dict__)
    try:
        with transaction.atomic(using=db.alias()):
            families.write([ending])
            return _reschedule(ending) if ending.again else _complete(ending)
    except BaseException:
        # The transaction was rolled back. The instance must be as it was before: the next try
        # finds its row by the claim in it.
        ending.row.__dict__.clear()
        ending.row.__dict__.update(before)
        raise


def record_in_transaction(ending: Ending) -> bool:
    """Record a success, with its signals, in the transaction that is open, that of its run.

    Returns:
        Whether our claim still held the row. If not, nothing was changed.
    """
    if ending.alone or receivers.any_for_success():
        families.write([ending])
        return _complete(ending)
    return not record_successes([ending])


def record_with_receivers(endings: Sequence[Ending]) -> tuple[list[Task], float]:
    """Record plain successes for which receivers are connected, all in one transaction.

    The signals of each row are sent as if it were recorded alone, and a receiver that raises harms
    no other row. A receiver that hangs, or ends the process, keeps all of them from being
    recorded: pass few rows at a time.

    Returns:
        The rows that our claims no longer held: nothing was changed for those, nor any signal
        sent. And the seconds that the receivers of the others took.
    """
    rows = [ending.row for ending in endings]
    into = partitions.place()
    with transaction.atomic(using=db.alias()):
        written = dict(finish_sql.write_outcomes(endings, Outcome.State.SUCCEEDED, into))
        kept = [row for row in rows if row.pk in written]
        finish_sql.copy(list(written), None, "", into)
        families.write(endings)
        completed = _completed(written.values())
        began = elapsed()
        for row in kept:
            _send_signals_of(row, completed[written[row.pk]], signals.task_successful)
        seconds = elapsed() - began
        _remove_with_signals(kept)
        notify.notify_waiters(list(written))
    return [row for row in rows if row.pk not in written], seconds


def _complete(ending: Ending) -> bool:
    row, error, now = ending.row, db.storable(ending.error), timezone.now()
    written = finish_sql.write_outcomes([ending], _state(ending))
    if not written:
        return False
    finish_sql.copy([row.pk], None if ending.succeeded else now, error)
    if ending.state is not None:
        _write_attempt(ending, error, now)
        _log_once(ending)
    instance = _completed([written[0][1]])[written[0][1]]
    _send_signals_of(
        row, instance, signals.task_successful if ending.succeeded else signals.task_failed
    )
    if not ending.cancelled:
        _repeat_if_possible(row, instance)
    _enqueue_what_follows(ending)
    _remove_with_signals([row])
    notify.notify_waiters([row.pk])
    return True


def _state(ending: Ending) -> Outcome.State:
    if ending.cancelled:
        return Outcome.State.CANCELLED
    return Outcome.State.SUCCEEDED if ending.succeeded else Outcome.State.FAILED


def _enqueue_what_follows(ending: Ending) -> None:
    """If the row's call has the option ``then``, enqueue that task with the row's id."""
    row, options = ending.row, ending.options or call_options.load(ending.row)
    if following := options.get("then"):
        params = enqueue.parameters(following, [row.pk], {})
        enqueued = enqueue.insert(
            Task(
                task_name=following,
                task_params=params,
                task_hash=enqueue.fingerprint(following, params),
                run_at=timezone.now(),
                queue=row.queue,
                priority=row.priority,
            ),
            call_options.inherited(options),
        )
        families.write([Ending(row, children=[enqueued.pk])])


def _completed(ids: Iterable[int]) -> dict[int, CompletedTask]:
    rows = CompletedTask.objects.using(db.alias()).defer(*_dates(CompletedTask))
    return dict(rows.in_bulk(list(ids)))


def _send_signals_of(row: Task, completed: CompletedTask, signal: Signal) -> None:
    receivers.saving(completed)
    receivers.saved(completed, created=True)
    receivers.send(signal, Task, task_id=row.pk, completed_task=completed)


def _remove_with_signals(rows: Sequence[Task]) -> None:
    # Where a project's models refer to Task, `remove` lets Django delete the rows, and Django sends
    # pre_delete and post_delete itself.
    ours = not Task._meta.related_objects
    for row in rows if ours else ():
        receivers.deleting(row)
    ids = [row.pk for row in rows]
    # If a row is gone already, a receiver may have deleted it, which is allowed. Or a receiver has
    # ended the transaction behind Django's back, and then the outcomes are gone too.
    if finish_sql.remove(ids) < len(ids) and finish_sql.count_outcomes(ids) < len(ids):
        raise BrokenTransaction(
            f"A receiver of a task's signal ended the transaction that records tasks {ids}. Use "
            "`with transaction.atomic():` there, and leave the connection's own commit() and "
            "rollback() alone."
        )
    for row in rows if ours else ():
        receivers.deleted(row)
    if db.connection().needs_rollback:  # else `atomic` would roll back and raise nothing
        raise BrokenTransaction(
            f"The outcomes of tasks {ids} could not be recorded: a statement "
            "of a receiver failed, and the error was caught."
        )


def _reschedule(ending: Ending) -> bool:
    row, error = ending.row, db.storable(ending.error)
    fence = f"UPDATE {db.TASKS} SET last_error = %s WHERE id = %s AND locked_by = %s"
    if not db.execute(fence, [error, row.pk, row.locked_by]):
        return False
    _write_attempt(ending, error, timezone.now())
    row.last_error, row.locked_by, row.locked_at = error, None, None
    # Without a delay, as after its first lost worker, the row keeps its place in the queue.
    if ending.delay:
        call_options.keep_slot(row)
        row.run_at = timezone.now() + ending.delay
    _log_once(ending)
    # This is sent before the row is written, for a receiver may set another run_at or priority.
    receivers.send(signals.task_rescheduled, Task, task=row)
    receivers.saving(row)
    changes, params = ["locked_by = NULL", "locked_at = NULL", "priority = %s"], [row.priority]
    if "run_at" in row.__dict__:
        changes, params = [*changes, "run_at = %s"], [*params, db.moment(row.run_at)]
    sql = f"UPDATE {db.TASKS} SET {', '.join(changes)} WHERE id = %s"
    db.execute(sql, [*params, row.pk])
    receivers.saved(row, created=False)
    return True


def _repeat_if_possible(row: Task, completed: CompletedTask) -> None:
    """Enqueue the next run. If none is possible, log that and write it on the completed row."""
    try:
        repeat(row)
    except NoNextRun as error:
        story = completed.last_error.rstrip() or "Succeeded"
        completed.last_error = db.storable(f"{story}\nand will not repeat: {error}.")
        logger.error("Task %s (id %s) will not repeat: %s.", row, row.pk, error)
        rows = CompletedTask.objects.using(db.alias()).filter(pk=completed.pk)
        rows.update(last_error=completed.last_error)


def _log_once(ending: Ending) -> None:
    """Log how a run ended, unless whoever ran it has: it was lost, or ended from outside."""
    if not ending.is_logged:
        ending.is_logged = True  # also if this transaction is rolled back, and tried again
        run_log.ended_from_outside(ending)


def _dates(model: Any) -> list[str]:
    fields = model._meta.concrete_fields
    return [field.name for field in fields if field.get_internal_type() == "DateTimeField"]


def _write_attempt(ending: Ending, error: str, now: datetime) -> None:
    row = ending.row
    attempt = Attempt(
        task_id=row.pk,
        number=row.attempts,
        state=ending.state or Attempt.State.FAILED,
        claim=row.locked_by or "",
        started_at=ending.started_at,
        ended_at=max(now, ending.started_at or now),  # the clock may have been set back
        error=error,
    )
    Attempt.objects.using(db.alias()).bulk_create([attempt])  # unlike save(), sends no signals
