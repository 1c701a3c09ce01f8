"""Where the tables are, and the SQL that SQLite and PostgreSQL spell differently.

No statement fetches the dates of many rows: a date that Python cannot hold would make the whole
fetch fail, for all rows of the batch. Rows are copied inside the database instead.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from bgtasks.models import Attempt, CallOptions, CompletedTask, Outcome, Task, Worker

# The name of each worker of ours begins like this, and so does each of its claims. Upstream's
# claims are process ids.
WORKER_PREFIX = "bg~"

SQLITE_TIMEOUT = 5.0  # the seconds for which Python's sqlite3 waits for a lock by default

TASKS = Task._meta.db_table
COMPLETED = CompletedTask._meta.db_table
OUTCOMES = Outcome._meta.db_table
WORKERS = Worker._meta.db_table
OPTIONS = CallOptions._meta.db_table
ATTEMPTS = Attempt._meta.db_table

# The largest int4. Where somebody has set a row's attempts to it, counting one more would make the
# claim of the whole batch fail.
MOST_ATTEMPTS = 2**31 - 1

# The columns that running a row needs: all but the dates (see above). Django fetches a date when
# somebody reads it from the instance.
FIELDS = [
    field.attname
    for field in Task._meta.concrete_fields
    if field.get_internal_type() != "DateTimeField"
]
# The columns that are copied unchanged from a finished row to its completed row.
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
    """Whether this is SQLite in memory: it exists in one connection of this process only."""
    return database.vendor == "sqlite" and bool(database.is_in_memory_db())  # type: ignore[attr-defined]


def lock_timeout(database: BaseDatabaseWrapper) -> float:
    """The seconds for which a connection to SQLite waits for the lock of another one."""
    return float(database.settings_dict.get("OPTIONS", {}).get("timeout", SQLITE_TIMEOUT))


def clock(utc: bool = False) -> str:
    """SQL for the database's own time, as Django would store it.

    Args:
        utc: UTC also on SQLite without USE_TZ, where Django stores local dates. Those jump twice
            a year; a column that nobody but us reads need not.
    """
    if on_postgresql():
        return "STATEMENT_TIMESTAMP()"
    local = "" if utc or settings.USE_TZ else ", 'localtime'"
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'now'{local})"


def age(column: str, utc: bool = False) -> str:
    """SQL for the seconds since the date in a column, by the database's clock.

    It never fails, whatever somebody has written there: the age of PostgreSQL's infinity is
    infinite, and that of a text that is no date, on SQLite, is NULL.

    Args:
        utc: the column has UTC; see `clock`.
    """
    if on_postgresql():
        # The difference of two timestamps fails if one of them is infinite.
        return f"(EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP()) - EXTRACT(EPOCH FROM {column}))"
    return f"((julianday({clock(utc)}) - julianday({column})) * 86400)"


# A row may seem to have been claimed so many seconds after its outcome was written, because clocks
# differ. Up to then the outcome is taken for the row's own.
SKEW = 60


def is_current(outcomes: str = OUTCOMES) -> str:
    """SQL for whether an outcome belongs to the task that has its id now.

    The ids of a table that was remade, or filled from a dump, may begin anew. Then a new row may
    have the id of an old outcome. It shows: the row waits, or was claimed after the outcome was
    written. Apart from that, a row and its own outcome exist together only while its ending is
    being written.
    """
    return (
        f"NOT EXISTS (SELECT 1 FROM {TASKS} AS other WHERE other.id = {outcomes}.task_id AND "
        "(other.locked_by IS NULL OR "
        f"{age(f'{outcomes}.finished_at')} - {age('other.locked_at')} > {SKEW}))"
    )


def has_odd_date(model: type[Model]) -> str:
    """SQL for whether a row has a date that Python cannot hold: to fetch it would fail."""
    table = model._meta.db_table
    dates = [f for f in model._meta.concrete_fields if f.get_internal_type() == "DateTimeField"]
    joined = " OR ".join(_is_odd(f'{table}."{field.column}"') for field in dates)
    return f"({joined})"


def _is_odd(column: str) -> str:
    if on_postgresql():
        return f"{column} NOT BETWEEN '0001-01-02' AND '9999-12-30'"
    # SQLite stores anything, and reads the 31st of February as a day in March.
    return f"{column} IS NOT NULL AND date({column}) IS NOT substr({column}, 1, 10)"


def date_or_null(column: str) -> str:
    """SQL for the date in a column, or NULL if Python cannot hold it."""
    return f"CASE WHEN {_is_odd(column)} THEN NULL ELSE {column} END"


def odd_ids(model: type[Model], most: int) -> list[Any]:
    """The primary keys of at most so many rows that `has_odd_date`. The whole table is searched."""
    key, table = model._meta.pk.column, model._meta.db_table
    sql = f"SELECT {key} FROM {table} WHERE {has_odd_date(model)} LIMIT {most}"
    return [pk for (pk,) in fetch(sql)]


def moment(value: datetime) -> Any:
    """A date as the parameter of a statement."""
    return connection().ops.adapt_datetimefield_value(value)


def moments(values: Iterable[datetime | None]) -> list[Any]:
    """Many dates as the parameters of a statement on SQLite: faster than `moment` for each."""
    plain = settings.USE_TZ and connection().timezone is UTC
    return [
        str(value.replace(tzinfo=None)) if plain and value and value.tzinfo is UTC
        else value and moment(value)
        for value in values
    ]  # fmt: skip


def read_date(value: Any) -> datetime | None:
    """A date as a statement gives it: on SQLite a text, in the time zone of the database."""
    if isinstance(value, str):
        value = parse_datetime(value)
    if value is None or timezone.is_aware(value):
        return value  # type: ignore[no-any-return]
    zone = connection().timezone
    return value if zone is None else timezone.make_aware(value, zone)


def members(values: Iterable[Any]) -> Any:
    """A list as the one parameter of `is_member`: the SQL is the same for lists of any length."""
    return list(values) if on_postgresql() else json.dumps(list(values))


def numbers(values: Iterable[float | None]) -> str:
    """Numbers as the text of an array of PostgreSQL, which is one parameter."""
    return f"{{{','.join('NULL' if value is None else repr(value) for value in values)}}}"


def is_member(column: str, type_: str) -> str:
    """SQL for whether a column's value is in a list; its parameter comes from `members`.

    Args:
        type_: the type of the values on PostgreSQL.
    """
    if on_postgresql():
        return f"{column} = ANY(%s::{type_}[])"
    return f"{column} IN (SELECT value FROM json_each(%s))"


def given(rows: Sequence[Task]) -> tuple[str, list[Any]]:
    """SQL, and its parameters, for a table ``given(id, claim)`` of these rows and their claims."""
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
    """SQL for the fence: whether a row of `TASKS` is still held by the claim in `given`.

    PostgreSQL must join the rows by their ids alone. With "=" here it might join them by their
    claims. All rows of a batch have the same claim, so that it would compare each with each.
    """
    return (
        f"{TASKS}.locked_by IS NOT DISTINCT FROM given.claim"
        if on_postgresql()
        else (f"{TASKS}.locked_by = given.claim")
    )


def one_attempt_more() -> str:
    """SQL for a row's attempts, and one more. What is no number counts as none, on SQLite."""
    more = f"CASE WHEN attempts < {MOST_ATTEMPTS} THEN attempts + 1 ELSE attempts END"
    return (
        more if on_postgresql() else f"CASE typeof(attempts) WHEN 'integer' THEN {more} ELSE 1 END"
    )


def one_attempt_less() -> str:
    """SQL for a row's attempts without the one that its claim has counted."""
    return "GREATEST(attempts - 1, 0)" if on_postgresql() else "MAX(CAST(attempts AS int) - 1, 0)"


def held_by(prefix: str) -> tuple[str, list[Any]]:
    """SQL, and its parameters, for whether a row's claim begins with a prefix.

    LIKE on PostgreSQL and GLOB on SQLite can use the index ``bgtasks_held``. The prefix may come
    from a row, and is taken literally: a wildcard in it stands for itself.
    """
    if on_postgresql():
        return "locked_by LIKE %s", [re.sub(r"([\\%_])", r"\\\1", prefix) + "%"]
    return "locked_by GLOB %s", [re.sub(r"([*?[])", r"[\1]", prefix) + "*"]


def claimed_by_ours() -> tuple[str, list[Any]]:
    """SQL, and its parameters, for whether a row is held by a claim of a worker of ours.

    A text that only begins like one, or on SQLite no text at all, is none.
    """
    sql, params = held_by(WORKER_PREFIX)
    if on_postgresql():
        return f"({sql} AND position('.' IN locked_by) > 0)", params
    return f"({sql} AND instr(locked_by, '.') > 0 AND typeof(locked_by) = 'text')", params


def next_completed_id() -> tuple[str, list[Any]]:
    """SQL, and its parameters, for the id that the completed row of each selected row gets."""
    if on_postgresql():
        # In a SELECT of its own the sequence's name is looked up once, and not for every row.
        return "nextval((SELECT pg_get_serial_sequence(%s, 'id')))", [f'"{COMPLETED}"']
    given_out = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s"
    there = f"SELECT COALESCE(MAX(id), 0) FROM {COMPLETED}"
    return f"MAX(({given_out}), ({there})) + ROW_NUMBER() OVER ()", [COMPLETED]


def next_task_id() -> tuple[str, list[Any]]:
    """SQL, and its parameters, for an id that no row has had, for each selected row.

    On SQLite no other connection can take the same ids: the statement holds the write lock.
    """
    if on_postgresql():
        return "nextval((SELECT pg_get_serial_sequence(%s, 'id')))", [f'"{TASKS}"']
    given_out = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s"
    there = f"SELECT COALESCE(MAX(id), 0) FROM {TASKS}"
    return f"MAX(({given_out}), ({there})) + ROW_NUMBER() OVER ()", [TASKS]


def last_id(table: str) -> tuple[str, list[Any]]:
    """SQL, and its parameters, for the last id that a table has given out; 0 if it has none."""
    there = f"(SELECT MAX(id) FROM {table})"
    if on_postgresql():
        # The view has NULL for a sequence that this role may not read.
        given_out = (
            "(SELECT last_value FROM pg_sequences WHERE quote_ident(schemaname) || '.' || "
            "quote_ident(sequencename) = pg_get_serial_sequence(%s, 'id'))"
        )
        return f"COALESCE({given_out}, {there}, 0)", [f'"{table}"']
    given_out = "(SELECT MAX(seq) FROM sqlite_sequence WHERE name = %s)"
    return f"COALESCE({given_out}, {there}, 0)", [table]


def unindexed(column: str) -> str:
    """SQL for a column, by whose index SQLite is not to find the rows.

    Without statistics, SQLite takes an index on the state of outcomes for better than a range of
    ids, and reads every outcome of that state. PostgreSQL has statistics.
    """
    return column if on_postgresql() else f"+{column}"


def listed(type_: str) -> str:
    """SQL for a table ``given(id)`` of values, whose parameter comes from `members`."""
    if on_postgresql():
        return f"unnest(%s::{type_}[]) AS given(id)"
    return "(SELECT value AS id FROM json_each(%s)) AS given"


def execute(sql: str, params: Sequence[Any] = ()) -> int:
    """Run a statement; returns how many rows it changed."""
    with connection().cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


@contextmanager
def write_transaction() -> Iterator[None]:
    """A transaction that writes: on SQLite it has the one write lock from its begin.

    A transaction of SQLite that has read cannot write any more if another one has written since,
    however long it waits, unless the project's transactions begin as IMMEDIATE.
    """
    with transaction.atomic(using=alias()):
        take_write_lock()
        yield


def take_write_lock() -> None:
    """On SQLite, take the write lock for this transaction; elsewhere do nothing."""
    if not on_postgresql():
        # A write that changes nothing takes it all the same.
        execute(f"UPDATE {TASKS} SET id = id WHERE id = -1")


def execute_many(sql: str, rows: Sequence[Sequence[Any]]) -> None:
    """Run a statement once for each of the rows, which are its parameters."""
    with connection().cursor() as cursor:
        cursor.executemany(sql, rows)


def fetch(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement; returns its rows.

    Raises:
        OperationalError: also if a text in SQLite is no UTF-8, for the first time in this process.
            The statement may have been carried out. From then on, such texts are read with marks
            in the place of what is none.
    """
    global _any_text
    try:
        with connection().cursor() as cursor:
            if _any_text and not on_postgresql():
                cursor.connection.text_factory = _readable
            cursor.execute(sql, params)
            return list(cursor.fetchall())
    except OperationalError as error:
        _any_text = _any_text or "Could not decode to UTF-8" in str(error)
        raise


# Reading every text by a function of Python takes longer, so it is not done before it has to be.
_any_text = False


def _readable(text: bytes) -> str:
    return text.decode(errors="replace")


# The SQLSTATEs of PostgreSQL's errors `lock_not_available`, `query_canceled`, `undefined_table`
# and `undefined_column`; and what SQLite says in the place of the last two.
_LOCK_TIMEOUT = "55P03"
_QUERY_CANCELED = "57014"
_UNDEFINED = {"42P01", "42703"}
_NO_SUCH = ("no such table", "no such column", "has no column named")


def is_lock_timeout(error: Exception) -> bool:
    """Whether a statement failed on PostgreSQL because it had waited too long for a lock."""
    return _sqlstate(error) == _LOCK_TIMEOUT


def is_locked(error: Exception) -> bool:
    """Whether a statement failed on SQLite because others had its lock for too long."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF  # without the extended part
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def is_given_up(error: Exception) -> bool:
    """Whether PostgreSQL gave a statement up, for it took longer than ``statement_timeout``."""
    return _sqlstate(error) == _QUERY_CANCELED


def is_not_migrated(error: Exception) -> bool:
    """Whether a statement failed because a table or a column is not there."""
    return _sqlstate(error) in _UNDEFINED or any(text in str(error) for text in _NO_SUCH)


def _sqlstate(error: Exception) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def columns_of(table: str) -> set[str]:
    """The names of a table's columns, in the database.

    Django's own description of a table parses on SQLite how it was made, which takes 3 ms.
    """
    with connection().cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} LIMIT 0")
        return {column[0] for column in cursor.description}


def instances(rows: Iterable[tuple[Any, ...]]) -> list[Task]:
    """Make instances of rows that have the columns `FIELDS`.

    They are made without the constructor, as when a model is unpickled: that takes a fifth of the
    constructor's time. But if a receiver of pre_init or post_init is connected, the constructor is
    used, for it sends those signals.
    """
    using = alias()
    if init_has_receivers():
        return [Task.from_db(using, FIELDS, row) for row in rows]
    return [stored(using, dict(zip(FIELDS, row, strict=True))) for row in rows]


def init_has_receivers() -> bool:
    """Whether a receiver of the signals of `Task`'s constructor is connected."""
    return bool(pre_init.has_listeners(Task) or post_init.has_listeners(Task))


def stored(using: str, values: dict[str, Any]) -> Task:
    """Make an instance of a row that the database has, without the constructor.

    Args:
        using: the name of that database.
        values: by attname. The dict is kept, as what the database is known to have.
    """
    row = Task.__new__(Task)
    state = ModelState()
    state.db, state.adding = using, False
    row.__dict__.update(values, _state=state, _bgtasks_known=values)
    return row


def remember(row: Task) -> None:
    """Keep on an instance what the database has, so that a later save writes only the changes."""
    row._bgtasks_known = {name: row.__dict__[name] for name in _ATTNAMES if name in row.__dict__}


def known(row: Task) -> dict[str, Any]:
    """What the database had when the instance was read or saved last; empty for a new one."""
    return row.__dict__.get("_bgtasks_known") or {}


_ATTNAMES = [field.attname for field in Task._meta.concrete_fields]


# What SQLite gives in the place of a value that is no number, or no text: it stores anything in any
# column, and one such row would end who compares it. (A priority may be anything; see `Frontier`.)
_IN_PLACE = {"attempts": ("integer", "1"), "repeat": ("integer", "0"), "last_error": ("text", "''")}


def columns(table: str = TASKS) -> str:
    """SQL that lists the columns `FIELDS`."""
    return ", ".join(_column(f'{table}."{name}"', name) for name in FIELDS)


def _column(sql: str, name: str) -> str:
    if name not in _IN_PLACE or on_postgresql():
        return sql
    type_, other = _IN_PLACE[name]
    return f"CASE typeof({sql}) WHEN '{type_}' THEN {sql} ELSE {other} END"


def storable(text: str) -> str:
    """Escape what not every database can store in a text: NUL, and half of a surrogate pair."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
