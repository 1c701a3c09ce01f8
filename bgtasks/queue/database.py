"""Where the tables are, and what SQLite and PostgreSQL spell differently.

Statements here never fetch a row's dates: a date that Python cannot hold would make the
fetch fail, and with it every other row of the batch. Rows are copied inside the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from bgtasks.models import CallOptions, CompletedTask, Outcome, Task, Worker

# How the name of each of our workers begins, and so each claim. No host is named like this.
WORKER_PREFIX = "bg~"

TASKS = Task._meta.db_table
COMPLETED = CompletedTask._meta.db_table
OUTCOMES = Outcome._meta.db_table
WORKERS = Worker._meta.db_table
OPTIONS = CallOptions._meta.db_table

# What running a row needs. Dates stay behind (see above); Django fetches one when it is read.
FIELDS = [
    field.attname
    for field in Task._meta.concrete_fields
    if field.get_internal_type() != "DateTimeField"
]
# What a finished row takes along as it is.
COPIED = [
    field.column
    for field in CompletedTask._meta.concrete_fields
    if field.column not in {"id", "run_at", "failed_at", "last_error"}
]


def alias() -> str:
    """The name of the database that holds the task tables."""
    return str(router.db_for_write(Task))


def connection() -> BaseDatabaseWrapper:
    return connections[alias()]


def on_postgresql() -> bool:
    return bool(connection().vendor == "postgresql")


def in_memory(database: BaseDatabaseWrapper) -> bool:
    """Whether a database lives in one connection of this process and nowhere else."""
    return database.vendor == "sqlite" and bool(database.is_in_memory_db())  # type: ignore[attr-defined]


def clock(utc: bool = False) -> str:
    """SQL for the database's own time, as a date that Django stores.

    Args:
        utc: on SQLite without USE_TZ, dates are local, and jump twice a year. Where nobody but
            us reads them they need not.
    """
    if on_postgresql():
        return "STATEMENT_TIMESTAMP()"
    local = "" if utc or settings.USE_TZ else ", 'localtime'"
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now'{local})"


def age(column: str, utc: bool = False) -> str:
    """SQL for the seconds since a date in a column, by the database's clock."""
    if on_postgresql():
        return f"EXTRACT(EPOCH FROM (STATEMENT_TIMESTAMP() - {column}))"
    return f"((julianday({clock(utc)}) - julianday({column})) * 86400)"


# Seconds that a worker's clock may be behind the database's.
SKEW = 60


def is_current(outcomes: str = OUTCOMES) -> str:
    """SQL that tells whether an outcome is that of the task that has its id.

    The ids of a table that was remade, or filled from a dump, may begin anew. Then a row waits
    beside an outcome, or was claimed after that; otherwise both are there only while a row's ending
    is being written.
    """
    return (
        f"NOT EXISTS (SELECT 1 FROM {TASKS} AS other WHERE other.id = {outcomes}.task_id AND "
        "(other.locked_by IS NULL OR "
        f"{age(f'{outcomes}.finished_at')} - {age('other.locked_at')} > {SKEW}))"
    )


def moment(value: datetime) -> Any:
    """A date as a parameter."""
    return connection().ops.adapt_datetimefield_value(value)


def moments(values: Iterable[datetime | None]) -> list[Any]:
    """Many dates as `moment` has them, in less time; for SQLite."""
    plain = settings.USE_TZ and connection().timezone is UTC
    return [
        str(value.replace(tzinfo=None)) if plain and value and value.tzinfo is UTC
        else value and moment(value)
        for value in values
    ]  # fmt: skip


def members(values: Iterable[Any]) -> Any:
    """A list as one parameter of `is_member`: the statement's text stays the same."""
    return list(values) if on_postgresql() else json.dumps(list(values))


def numbers(values: Iterable[float | None]) -> str:
    """Numbers as one parameter, on PostgreSQL, of an array's type."""
    return f"{{{','.join('NULL' if value is None else repr(value) for value in values)}}}"


def is_member(column: str, type_: str) -> str:
    """SQL that tells whether a column is in a list of ``type_``."""
    if on_postgresql():
        return f"{column} = ANY(%s::{type_}[])"
    return f"{column} IN (SELECT value FROM json_each(%s))"


def given(rows: Sequence[Task]) -> tuple[str, list[Any]]:
    """SQL for a table ``given(id, claim)`` of rows with the claims that we hold them by."""
    pairs = [(row.pk, row.locked_by) for row in rows]
    if on_postgresql():
        sql = "(SELECT * FROM unnest(%s::bigint[], %s::varchar[]) AS pair(id, claim)) AS given"
        return sql, [[pk for pk, _ in pairs], [claim for _, claim in pairs]]
    sql = (
        "(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS claim "
        "FROM json_each(%s)) AS given"
    )
    return sql, [json.dumps(pairs)]


def is_held_as_given() -> str:
    """SQL for the fence: a row of `TASKS` is still held by the claim in `given`.

    Rows are to be found by their ids. Written with "=", PostgreSQL may join by the claims, which
    all rows of a batch have in common, and compare each row with each.
    """
    return (
        f"{TASKS}.locked_by IS NOT DISTINCT FROM given.claim"
        if on_postgresql()
        else (f"{TASKS}.locked_by = given.claim")
    )


def held_by(prefix: str) -> tuple[str, list[Any]]:
    """SQL that tells whether a row's claim begins with a prefix; both can use the index."""
    if on_postgresql():
        return "locked_by LIKE %s", [f"{prefix}%"]
    return "locked_by GLOB %s", [f"{prefix}*"]


def next_completed_id() -> tuple[str, list[Any]]:
    """SQL for the id that each selected row's completed row gets."""
    if on_postgresql():
        # The sequence's name in a select of its own: looked up once, not for every row.
        return "nextval((SELECT pg_get_serial_sequence(%s, 'id')))", [f'"{COMPLETED}"']
    given_out = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s"
    there = f"SELECT COALESCE(MAX(id), 0) FROM {COMPLETED}"
    return f"MAX(({given_out}), ({there})) + ROW_NUMBER() OVER ()", [COMPLETED]


def execute(sql: str, params: Sequence[Any] = ()) -> int:
    """Run a statement; returns how many rows it changed."""
    with connection().cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


def fetch(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement; returns its rows."""
    with connection().cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


# PostgreSQL's code for `lock_not_available`.
_LOCK_TIMEOUT = "55P03"


def is_lock_timeout(error: Exception) -> bool:
    """Whether a statement gave up waiting for somebody's lock, on PostgreSQL."""
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return bool(code == _LOCK_TIMEOUT)


def instances(rows: Iterable[tuple[Any, ...]]) -> list[Task]:
    """Rows of `FIELDS` as instances.

    Made as a pickled model is, which takes a fifth of the time that Django's constructor does;
    where somebody listens to that, by the constructor.
    """
    using = alias()
    if init_has_receivers():
        return [Task.from_db(using, FIELDS, row) for row in rows]
    return [stored(using, dict(zip(FIELDS, row, strict=True))) for row in rows]


def init_has_receivers() -> bool:
    """Whether somebody listens to instances being made."""
    return bool(pre_init.has_listeners(Task) or post_init.has_listeners(Task))


def stored(using: str, values: dict[str, Any]) -> Task:
    """An instance of a row that the database has, made without its constructor.

    Args:
        values: by attname; kept, as what the database is known to have.
    """
    row = Task.__new__(Task)
    state = ModelState()
    state.db, state.adding = using, False
    row.__dict__.update(values, _state=state, _bgtasks_known=values)
    return row


def remember(row: Task) -> None:
    """Keep what the database has: a later save writes only what was changed since."""
    row._bgtasks_known = {name: row.__dict__[name] for name in _ATTNAMES if name in row.__dict__}


def known(row: Task) -> dict[str, Any]:
    """What the database had when an instance was read or saved; empty for a new one."""
    return row.__dict__.get("_bgtasks_known") or {}


_ATTNAMES = [field.attname for field in Task._meta.concrete_fields]


def columns(table: str = TASKS) -> str:
    """SQL that names `FIELDS`."""
    return ", ".join(f'{table}."{name}"' for name in FIELDS)


def storable(text: str) -> str:
    """Text as every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
