"""The statements that move rows to the completed ones, for many rows at once.

Those that write an outcome are fenced: they write it only while the row's ``locked_by`` is still
the claim that ran it. The others touch rows that have an outcome.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from background_task.models import Task
from django.utils import timezone

from bgtasks.models import Outcome
from bgtasks.queue import database as db
from bgtasks.queue import notify
from bgtasks.queue.ending import Ending
from bgtasks.queue.partitions import MAIN, Place

# If the task table was remade, or its sequence set back, there may be an outcome of an older row
# with the same id. It is replaced, for it must not make the finish fail.
_REPLACE_STALE = (
    "ON CONFLICT (task_id) DO UPDATE SET completed_id = excluded.completed_id, "
    "state = excluded.state, attempts = excluded.attempts, started_at = excluded.started_at, "
    "finished_at = excluded.finished_at, result = excluded.result, "
    "exception = excluded.exception, due_at = excluded.due_at"
)
_COLUMNS = (
    "(task_id, completed_id, state, attempts, started_at, finished_at, result, exception, due_at)"
)


def finish_at_once(endings: Sequence[Ending], into: Place) -> list[int]:
    """Do in one statement what `write_outcomes`, `copy` and `remove` do, for plain successes.

    For PostgreSQL alone.

    Args:
        into: the tables that get the outcomes and the completed rows.

    Returns:
        The ids of the rows that our claims still held.
    """
    given, values = _given(endings)
    fresh, params = db.next_completed_id()
    columns = ", ".join(db.COPIED)
    finished, _ = _finished("started_at")
    sql = (
        f"WITH gone AS (DELETE FROM {db.TASKS} USING {given} WHERE {db.TASKS}.id = given.id "
        # The ids once more, as a list: without it the planner may read the whole table for the
        # join.
        f"AND {db.TASKS}.id = ANY(%s::bigint[]) AND {db.is_held_as_given()} "
        f"RETURNING {db.TASKS}.*, given.result, given.started_at), "
        f"ended AS MATERIALIZED (SELECT {fresh} AS completed_id, gone.* FROM gone), "
        f"copied AS (INSERT INTO {into.completed} (id, run_at, last_error, {columns}) "
        f"SELECT completed_id, %s, '', {columns} FROM ended), "
        f"notified AS ({notify.NOTIFY_ENDED.format('SELECT id FROM ended')}), "
        f"written AS (INSERT INTO {into.outcomes} {_COLUMNS} "
        f"SELECT id, completed_id, %s, attempts, started_at, {finished}, result, NULL, "
        f"{db.date_or_null('run_at')} FROM ended {_REPLACE_STALE} RETURNING task_id) "
        # PostgreSQL does not run a SELECT in a WITH that nothing reads: hence "notified" here.
        "SELECT task_id FROM written, notified"
    )
    ids = db.numbers(ending.row.id for ending in endings)
    now, state = db.moment(timezone.now()), Outcome.State.SUCCEEDED
    return [task_id for (task_id,) in db.fetch(sql, [*values, ids, *params, now, state])]


def _finished(started: str) -> tuple[str, list[Any]]:
    """SQL, and its parameters, for the time of an ending, which is never before its start.

    On SQLite it is this host's clock, on which the database is too: the start has microseconds,
    and SQLite's own clock has milliseconds.

    Args:
        started: the column with the time of the start, which may be NULL.
    """
    if db.on_postgresql():
        return f"GREATEST({db.clock()}, {started})", []
    return f"MAX(%s, COALESCE({started}, ''))", [db.moment(timezone.now())]


# Stands for the claim of an instance that has none, and equals no row's claim.
NO_CLAIM = "-"
# Separates the values of a column that are joined into one parameter. JSON escapes this character,
# and no claim has it.
_SEPARATOR = "\x1f"


def _given(endings: Sequence[Ending]) -> tuple[str, list[Any]]:
    """Like `db.given`, with the further columns ``result``, ``exception`` and ``started_at``."""
    columns: list[list[Any]] = [
        [ending.row.id for ending in endings],
        [ending.row.locked_by or NO_CLAIM for ending in endings],
        [ending.result for ending in endings],
        [ending.exception for ending in endings],
    ]
    began = [ending.started_at for ending in endings]
    if db.on_postgresql():
        # Each column is joined into one text: a driver needs longer to pass a list than a worker
        # to run a task.
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


def write_outcomes(
    endings: Sequence[Ending], state: str, into: Place = MAIN
) -> list[tuple[int, int]]:
    """Write the outcomes of the rows that our claims still hold, and lock these rows.

    Args:
        into: its table of outcomes gets them.

    Returns:
        The id of each such row, and the id that its completed row will have.
    """
    given, values = _given(endings)
    fresh, params = db.next_completed_id()
    finished, now = _finished("given.started_at")
    due = db.date_or_null(f"{db.TASKS}.run_at")
    lock = f"FOR UPDATE OF {db.TASKS}" if db.on_postgresql() else ""
    sql = (
        f"INSERT INTO {into.outcomes} {_COLUMNS} "
        f"SELECT {db.TASKS}.id, {fresh}, %s, attempts, given.started_at, {finished}, result, "
        f"exception, {due} FROM {given} JOIN {db.TASKS} ON {db.TASKS}.id = given.id "
        f"AND {db.is_held_as_given()} WHERE true {lock} "
        f"{_REPLACE_STALE} RETURNING task_id, completed_id"
    )
    return db.fetch(sql, [*params, state, *now, *values])


def copy(ids: Sequence[int], failed_at: datetime | None, error: str, into: Place = MAIN) -> None:
    """Write the completed rows of rows that have an outcome.

    Their ``run_at`` is the time of the ending, as upstream sets it.

    Args:
        failed_at: None for a success.
        into: the tables into which their outcomes were written.
    """
    columns = ", ".join(db.COPIED)
    failure = None if failed_at is None else db.moment(failed_at)
    db.execute(
        f"INSERT INTO {into.completed} (id, run_at, failed_at, last_error, {columns}) "
        f"SELECT completed_id, %s, %s, %s, {', '.join(f'{db.TASKS}.{c}' for c in db.COPIED)} "
        f"FROM {db.TASKS} JOIN {into.outcomes} ON task_id = {db.TASKS}.id "
        f"WHERE {db.is_member(f'{db.TASKS}.id', 'bigint')}",
        [db.moment(timezone.now()), failure, error, db.members(ids)],
    )


def remove(ids: Sequence[int]) -> int:
    """Delete those of the rows that have an outcome; returns how many."""
    # A project's models may refer to Task: Django knows what to do with rows that refer to ours.
    if Task._meta.related_objects:
        outcomes = Outcome.objects.using(db.alias()).filter(task_id__in=ids)
        rows = Task.objects.using(db.alias()).filter(pk__in=outcomes.values("task_id"))
        return int(rows.delete()[1].get(Task._meta.label, 0))
    return db.execute(
        f"DELETE FROM {db.TASKS} WHERE {db.is_member('id', 'bigint')} AND EXISTS "
        f"(SELECT 1 FROM {db.OUTCOMES} WHERE task_id = {db.TASKS}.id)",
        [db.members(ids)],
    )


def count_outcomes(ids: Sequence[int]) -> int:
    return Outcome.objects.using(db.alias()).filter(task_id__in=ids).count()
