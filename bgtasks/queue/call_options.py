"""The options of single calls, stored beside the rows: time limit, expiry, what follows, phase."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from background_task.models import Task
from django.db import DataError, transaction

from bgtasks.models import CallOptions
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import MARK, MARKED, read_options


def announce(row: Task, options: Mapping[str, Any]) -> None:
    """Mark a new row, before it is saved, as one that has options. Without any, nothing is done."""
    if options:
        row.task_params = with_mark(row.task_params)


# The context of the trace in which a call was enqueued; see `bgtasks.running.tracing`.
TRACE = "trace"


def inherited(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a row for the row that is enqueued when this one has ended."""
    return {name: options[name] for name in (TRACE,) if name in options}


def with_mark(params: str) -> str:
    """The text of a row's arguments, marked as those of a row that has options."""
    return f"{MARK}{without_mark(params)}"


def without_mark(params: str) -> str:
    """The text of a row's arguments, for another row that has no options."""
    return params.removeprefix(MARK)


def insert(row: Task, options: Mapping[str, Any]) -> None:
    """Store the options of a new row, which is marked. Without options, nothing is stored."""
    if options:
        _upsert(row.pk, options)


def insert_many(ids: Sequence[int], options: Mapping[str, Any]) -> None:
    """Store the same options of many new rows, which are marked."""
    if options:
        # JSON gives the ids to both databases as one parameter, however many they are.
        each = "json_array_elements_text(%s::json)" if db.on_postgresql() else "json_each(%s)"
        db.execute(
            f"INSERT INTO {db.OPTIONS} (task_id, options) "
            f"SELECT CAST(value AS bigint), %s FROM {each} WHERE true "
            "ON CONFLICT (task_id) DO UPDATE SET options = excluded.options",
            [json.dumps({**options, MARKED: True}), json.dumps(ids)],
        )


def _upsert(task_id: int, options: Mapping[str, Any]) -> None:
    db.execute(
        # If the task table was remade, its ids begin anew: an older row of this id may have left
        # its options behind.
        f"INSERT INTO {db.OPTIONS} (task_id, options) VALUES (%s, %s) "
        "ON CONFLICT (task_id) DO UPDATE SET options = excluded.options",
        [task_id, json.dumps({**options, MARKED: True})],
    )


def load(row: Task) -> dict[str, Any]:
    """Read the options of a row from the database. A `ClaimedRow` already carries its own."""
    return load_many([row])[row.pk]


def load_many(rows: Iterable[Task]) -> dict[int, dict[str, Any]]:
    """Read the options of rows, by their ids, as `load` does for one."""
    params = {row.pk: row.task_params for row in rows}
    found = CallOptions.objects.using(db.alias()).filter(pk__in=params)
    texts = dict(found.values_list("pk", "options"))
    return {pk: read_options(texts.get(pk), params[pk]) for pk in params}


def keep_slot(row: Task) -> None:
    """Store the time at which a repeating row was due, before its ``run_at`` is changed.

    The next run is computed from that time, so that a retry does not shift all later runs.
    """
    if row.repeat <= 0:
        return
    try:
        with transaction.atomic(using=db.alias()):  # fetching a date that Python cannot hold fails
            if "slot" not in (options := load(row)):
                _upsert(row.pk, {**options, "slot": row.run_at.isoformat()})
                _mark(row)
    except (ArithmeticError, ValueError, AttributeError, DataError, Task.DoesNotExist):
        return  # a row whose date cannot be read has no phase to keep


def put(row: Task, name: str, value: Any) -> None:
    """Store one more option of a row that is in the queue."""
    _upsert(row.pk, {**load(row), name: value})
    _mark(row)


def remove(row: Task, *names: str) -> None:
    """Delete some options of a row that is in the queue."""
    _upsert(row.pk, {name: value for name, value in load(row).items() if name not in names})


def _mark(row: Task) -> None:
    """Mark a row that is in the queue as one that has options."""
    if not row.task_params.startswith(MARK):
        row.task_params = f"{MARK}{row.task_params}"
        sql = f"UPDATE {db.TASKS} SET task_params = %s WHERE id = %s AND task_hash = %s"
        db.execute(sql, [row.task_params, row.pk, row.task_hash])


def slot(row: Task, options: Mapping[str, Any] | None = None) -> datetime:
    """The time at which a repeating row was due before something else changed its ``run_at``.

    Args:
        options: those of the row; None: they are read from the database.
    """
    kept = (load(row) if options is None else options).get("slot")
    return datetime.fromisoformat(kept) if kept else row.run_at
