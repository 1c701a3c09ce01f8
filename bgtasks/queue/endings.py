"""What a run comes to: the row moves to the completed ones, or back on the queue.

Everything here is fenced: it touches a row only while its ``locked_by`` is still the claim
that ran it. A late write changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from background_task import models as stock
from background_task import signals
from background_task import tasks as stock_tasks
from background_task.models import CompletedTask, Task
from django.db import DataError, IntegrityError, transaction
from django.dispatch import Signal
from django.utils import timezone

from bgtasks import policies, receivers, schedule
from bgtasks.clock import elapsed
from bgtasks.exceptions import BrokenTransaction, NoNextRun
from bgtasks.models import Attempt, Outcome
from bgtasks.queue import calloptions, claims, creators, enqueue, notify, unique
from bgtasks.queue import database as db

logger = logging.getLogger(__name__)

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


@dataclass(slots=True)
class Ending:
    """How a run ended.

    Attributes:
        row: the row, held by the claim that ran it.
        state: what the attempt came to; None is success.
        error: what to tell of a run that did not succeed, a traceback as a rule.
        delay: try again after this long; None is never.
        mark: where its start is marked (see `bgtasks.marks`), if it is.
        result: what it returned, as JSON; None for None.
        exception: what it raised, as `bgtasks.remote.describe` gives it.
        started_at: when this attempt began; None if it did not.
        cancelled: it is not wanted any more; `error` says why.
        snoozed: it has not been run, as it were, and comes back after `delay`.
    """

    row: Task
    state: Attempt.State | None = None
    error: str = ""
    delay: timedelta | None = None
    mark: int | None = None
    result: str | None = None
    exception: str | None = None
    started_at: datetime | None = None
    cancelled: bool = False
    snoozed: bool = False

    @property
    def again(self) -> bool:
        return self.state is not None and self.delay is not None

    @property
    def succeeded(self) -> bool:
        return self.state is None and not self.cancelled

    @property
    def alone(self) -> bool:
        """Whether this must be recorded by itself, also where nobody listens."""
        plain = self.succeeded and not self.snoozed and self.row.repeat == 0
        return not plain or "then" in db.options_of(self.row)


def stopped_run(row: Task, story: str) -> Ending:
    """The ending of a run that was made to end, and is not to blame: it runs again at once.

    Unless it must not run twice.
    """
    if policies.of(row.task_name).on_worker_lost == "fail":
        story += ' It is not run again, for it says on_worker_lost="fail".'
        return Ending(row, Attempt.State.STOPPED, f"Stopped: {story}")
    return Ending(row, Attempt.State.STOPPED, f"Stopped: {story}", timedelta(0))


def record(endings: Sequence[Ending]) -> list[Task]:
    """Record plain successes, all in one transaction.

    Returns:
        The rows that were no longer ours. Nothing was changed for those.
    """
    rows = [ending.row for ending in endings]
    if db.on_postgresql() and not Task._meta.related_objects:
        kept = _finish_at_once(endings)
    else:
        with transaction.atomic(using=db.alias()):
            kept = [task_id for task_id, _ in _write_outcomes(endings, Outcome.State.SUCCEEDED)]
            _copy(kept, None, "")
            _remove(kept)
            notify.tell_ended(kept)
    if len(kept) == len(rows):
        return []
    return [row for row in rows if row.pk not in set(kept)]


def record_alone(ending: Ending) -> bool:
    """Record any ending, with its signals, in one transaction.

    Returns:
        Whether the row was still ours. If not, nothing was changed.
    """
    if ending.snoozed:
        return bool(claims.release([ending.row], ending.delay))
    before = dict(ending.row.__dict__)
    try:
        with transaction.atomic(using=db.alias()):
            return _reschedule(ending) if ending.again else _complete(ending)
    except BaseException:
        # Nothing is as it was written, and the row must be as it was: a next try is fenced by it.
        ending.row.__dict__.clear()
        ending.row.__dict__.update(before)
        raise


def record_heard(endings: Sequence[Ending]) -> tuple[list[Task], float]:
    """Record plain successes that somebody listens to, all in one transaction.

    Signals are sent for each row as if it were alone, and a receiver that raises harms no other
    row. One that ends the process, or hangs, does: keep it few.

    Returns:
        The rows that were no longer ours, for which nothing was changed nor any signal sent; and
        the seconds that the receivers of the others took.
    """
    rows = [ending.row for ending in endings]
    with transaction.atomic(using=db.alias()):
        written = dict(_write_outcomes(endings, Outcome.State.SUCCEEDED))
        kept = [row for row in rows if row.pk in written]
        _copy(list(written), None, "")
        completed = _completed(written.values())
        began = elapsed()
        for row in kept:
            _tell_of(row, completed[written[row.pk]], signals.task_successful)
        seconds = elapsed() - began
        _remove_and_tell(kept)
        notify.tell_ended(list(written))
    return [row for row in rows if row.pk not in written], seconds


def _complete(ending: Ending) -> bool:
    row, error = ending.row, db.storable(ending.error)
    written = _write_outcomes([ending], _state(ending))
    if not written:
        return False
    _copy([row.pk], None if ending.succeeded else timezone.now(), error)
    if ending.state is not None:
        _write_attempt(ending, error)
        stock.logger.warning(
            "Marking task %s as failed (id %s, attempt %s): %s",
            row, row.pk, row.attempts, _last_line(error),
        )  # fmt: skip
    instance = _completed([written[0][1]])[written[0][1]]
    _tell_of(row, instance, signals.task_successful if ending.succeeded else signals.task_failed)
    if not ending.cancelled:
        _repeat_if_possible(row, instance)
    _enqueue_what_follows(row)
    _remove_and_tell([row])
    notify.tell_ended([row.pk])
    return True


def _state(ending: Ending) -> Outcome.State:
    if ending.cancelled:
        return Outcome.State.CANCELLED
    return Outcome.State.SUCCEEDED if ending.succeeded else Outcome.State.FAILED


def _enqueue_what_follows(row: Task) -> None:
    """Enqueue the row that the call asked for, for when this one has ended."""
    if following := calloptions.load(row).get("then"):
        params = enqueue.parameters(following, [row.pk], {})
        enqueue.insert(
            Task(
                task_name=following,
                task_params=params,
                task_hash=enqueue.fingerprint(following, params),
                run_at=timezone.now(),
                queue=row.queue,
                priority=row.priority,
            )
        )


def _completed(ids: Iterable[int]) -> dict[int, CompletedTask]:
    rows = CompletedTask.objects.using(db.alias()).defer(*_dates(CompletedTask))
    return dict(rows.in_bulk(list(ids)))


def _tell_of(row: Task, completed: CompletedTask, signal: Signal) -> None:
    receivers.saving(completed)
    receivers.saved(completed, created=True)
    receivers.send(signal, Task, task_id=row.pk, completed_task=completed)


def _remove_and_tell(rows: Sequence[Task]) -> None:
    # Where Django deletes the rows, for others refer to them, it sends these two itself.
    ours = not Task._meta.related_objects
    for row in rows if ours else ():
        receivers.deleting(row)
    ids = [row.pk for row in rows]
    # A receiver may delete a row, which is well; or roll the transaction back by other means than
    # Django's, and then the outcomes are gone.
    if _remove(ids) < len(ids) and _count_outcomes(ids) < len(ids):
        raise BrokenTransaction(
            f"A receiver of a task's signal ended the transaction that records tasks {ids}. Use "
            "`with transaction.atomic():` there, and leave the connection's own commit() and "
            "rollback() alone."
        )
    for row in rows if ours else ():
        receivers.deleted(row)


def _reschedule(ending: Ending) -> bool:
    row, error = ending.row, db.storable(ending.error)
    fence = f"UPDATE {db.TASKS} SET last_error = %s WHERE id = %s AND locked_by = %s"
    if not db.execute(fence, [error, row.pk, row.locked_by]):
        return False
    _write_attempt(ending, error)
    row.last_error, row.locked_by, row.locked_at = error, None, None
    # A row that lost its worker for the first time keeps its place in the queue.
    if ending.delay:
        calloptions.keep_slot(row)
        row.run_at = timezone.now() + ending.delay
    stock.logger.warning(
        "Rescheduling task %s for %s later (id %s, attempt %s): %s",
        row, ending.delay, row.pk, row.attempts, _last_line(error),
    )  # fmt: skip
    # Sent before the row is written: a receiver may set another run_at or priority.
    receivers.send(signals.task_rescheduled, Task, task=row)
    receivers.saving(row)
    changes, params = ["locked_by = NULL", "locked_at = NULL", "priority = %s"], [row.priority]
    if "run_at" in row.__dict__:
        changes, params = [*changes, "run_at = %s"], [*params, db.moment(row.run_at)]
    sql = f"UPDATE {db.TASKS} SET {', '.join(changes)} WHERE id = %s"
    db.execute(sql, [*params, row.pk])
    receivers.saved(row, created=False)
    return True


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
            run_at = schedule.next_run(calloptions.slot(row), row.repeat, timezone.now())
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
    receivers.send(signals.task_created, type(stock_tasks.tasks._runner), task=following)
    return following


def _repeat_if_possible(row: Task, completed: CompletedTask) -> None:
    """A next run that is impossible ends the chain, and the completed row says why."""
    try:
        repeat(row)
    except NoNextRun as error:
        story = completed.last_error.rstrip() or "Succeeded"
        completed.last_error = db.storable(f"{story}\nand will not repeat: {error}.")
        logger.error("Task %s (id %s): %s", row, row.pk, completed.last_error)
        rows = CompletedTask.objects.using(db.alias()).filter(pk=completed.pk)
        rows.update(last_error=completed.last_error)


def _following(row: Task, run_at: datetime) -> Task:
    return Task(run_at=run_at, **{name: getattr(row, name) for name in REPEATED})


def _last_line(error: str) -> str:
    """Of a traceback, the exception; of a story, all of it."""
    return error.strip().rpartition("\n")[2]


def _dates(model: Any) -> list[str]:
    fields = model._meta.concrete_fields
    return [field.name for field in fields if field.get_internal_type() == "DateTimeField"]


# What to do where a row of the same id had an outcome before the table was remade or its sequence
# set back: that is a stale one, and must not fail the finish.
_REPLACE_STALE = (
    "ON CONFLICT (task_id) DO UPDATE SET completed_id = excluded.completed_id, "
    "state = excluded.state, attempts = excluded.attempts, started_at = excluded.started_at, "
    "finished_at = excluded.finished_at, result = excluded.result, exception = excluded.exception"
)
_INTO_OUTCOMES = (
    f"INSERT INTO {db.OUTCOMES} (task_id, completed_id, state, attempts, started_at, finished_at, "
    "result, exception)"
)


def _finish_at_once(endings: Sequence[Ending]) -> list[int]:
    """What `_write_outcomes`, `_copy` and `_remove` do, in one statement, for plain successes.

    Returns:
        The ids of the rows that were still ours.
    """
    given, values = _given(endings)
    fresh, params = db.next_completed_id()
    columns = ", ".join(db.COPIED)
    sql = (
        f"WITH gone AS (DELETE FROM {db.TASKS} USING {given} WHERE {db.TASKS}.id = given.id "
        # Said once more as a list: else the planner may read the whole table for the join.
        f"AND {db.TASKS}.id = ANY(%s::bigint[]) AND {db.is_held_as_given()} "
        f"RETURNING {db.TASKS}.*, given.result, given.started_at), "
        f"ended AS MATERIALIZED (SELECT {fresh} AS completed_id, gone.* FROM gone), "
        f"copied AS (INSERT INTO {db.COMPLETED} (id, run_at, last_error, {columns}) "
        f"SELECT completed_id, %s, '', {columns} FROM ended), "
        f"told AS ({notify.ENDED.format('SELECT id FROM ended')}), "
        f"written AS ({_INTO_OUTCOMES} SELECT id, completed_id, %s, attempts, started_at, "
        f"{db.clock()}, result, NULL FROM ended {_REPLACE_STALE} RETURNING task_id) "
        "SELECT task_id FROM written, told"  # told: or it would not be done
    )
    ids = db.numbers(ending.row.pk for ending in endings)
    now, state = db.moment(timezone.now()), Outcome.State.SUCCEEDED
    return [task_id for (task_id,) in db.fetch(sql, [*values, ids, *params, now, state])]


# Of a row that nobody holds, which must match none.
NO_CLAIM = "-"
# Between the parts of a text that is one parameter; JSON escapes it, and no claim has it.
_SEPARATOR = "\x1f"


def _given(endings: Sequence[Ending]) -> tuple[str, list[Any]]:
    """As `db.given`, with the columns ``result``, ``exception`` and ``started_at`` besides."""
    columns: list[list[Any]] = [
        [ending.row.pk for ending in endings],
        [ending.row.locked_by or NO_CLAIM for ending in endings],
        [ending.result for ending in endings],
        [ending.exception for ending in endings],
    ]
    began = [ending.started_at for ending in endings]
    if db.on_postgresql():
        # As few texts: a driver takes longer over a list than a worker over a task.
        texts = f"string_to_array(%s, chr({ord(_SEPARATOR)}), '')"
        sources = f"%s::bigint[], {texts}::varchar[], {texts}, {texts}, %s::float8[]"
        given = (
            "(SELECT it.id, claim, result, exception, to_timestamp(began) AS started_at "
            f"FROM unnest({sources}) AS it(id, claim, result, exception, began)) AS given"
        )
        ids, *others = columns
        joined = [_SEPARATOR.join(value or "" for value in column) for column in others]
        seconds = [moment.timestamp() if moment else None for moment in began]
        return given, [db.numbers(ids), *joined, db.numbers(seconds)]
    names = ("id", "claim", "result", "exception", "started_at")
    parts = [f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(names)]
    given = f"(SELECT {', '.join(parts)} FROM json_each(%s)) AS given"
    return given, [json.dumps(list(zip(*columns, db.moments(began), strict=True)))]


def _write_outcomes(endings: Sequence[Ending], state: str) -> list[tuple[int, int]]:
    """Write outcomes for those whose rows are still ours; locks the rows.

    Returns:
        Each row's id and the id that its completed row will have.
    """
    given, values = _given(endings)
    fresh, params = db.next_completed_id()
    lock = f"FOR UPDATE OF {db.TASKS}" if db.on_postgresql() else ""
    sql = (
        f"{_INTO_OUTCOMES} SELECT {db.TASKS}.id, {fresh}, %s, attempts, given.started_at, "
        f"{db.clock()}, result, exception "
        f"FROM {given} JOIN {db.TASKS} ON {db.TASKS}.id = given.id "
        f"AND {db.is_held_as_given()} WHERE true {lock} "
        f"{_REPLACE_STALE} RETURNING task_id, completed_id"
    )
    return db.fetch(sql, [*params, state, *values])


def _copy(ids: Sequence[int], failed_at: datetime | None, error: str) -> None:
    """Write the completed rows. Their ``run_at`` is when they ended, as it always was."""
    columns = ", ".join(db.COPIED)
    failure = None if failed_at is None else db.moment(failed_at)
    db.execute(
        f"INSERT INTO {db.COMPLETED} (id, run_at, failed_at, last_error, {columns}) "
        f"SELECT completed_id, %s, %s, %s, {', '.join(f'{db.TASKS}.{c}' for c in db.COPIED)} "
        f"FROM {db.TASKS} JOIN {db.OUTCOMES} ON task_id = {db.TASKS}.id "
        f"WHERE {db.is_member(f'{db.TASKS}.id', 'bigint')}",
        [db.moment(timezone.now()), failure, error, db.members(ids)],
    )


def _remove(ids: Sequence[int]) -> int:
    """Delete rows that have an outcome; returns how many."""
    if Task._meta.related_objects:  # a project's rows refer to ours: Django knows what to do
        outcomes = Outcome.objects.using(db.alias()).filter(task_id__in=ids)
        rows = Task.objects.using(db.alias()).filter(pk__in=outcomes.values("task_id"))
        return int(rows.delete()[1].get(Task._meta.label, 0))
    return db.execute(
        f"DELETE FROM {db.TASKS} WHERE {db.is_member('id', 'bigint')} AND EXISTS "
        f"(SELECT 1 FROM {db.OUTCOMES} WHERE task_id = {db.TASKS}.id)",
        [db.members(ids)],
    )


def _count_outcomes(ids: Sequence[int]) -> int:
    return Outcome.objects.using(db.alias()).filter(task_id__in=ids).count()


def _write_attempt(ending: Ending, error: str) -> None:
    row = ending.row
    attempt = Attempt(
        task_id=row.pk,
        number=row.attempts,
        state=ending.state or Attempt.State.FAILED,
        claim=row.locked_by or "",
        started_at=ending.started_at,
        ended_at=timezone.now(),
        error=error,
    )
    Attempt.objects.using(db.alias()).bulk_create([attempt])  # no signals: a row of our own
