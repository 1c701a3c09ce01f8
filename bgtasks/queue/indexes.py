"""The indexes of the task tables: few, and those that a claim needs.

Upstream indexes nearly every column, with fourteen indexes a table on PostgreSQL, and each costs
every enqueue, claim and finish a write. A migration of ours replaces them. It is done again after
every `migrate`, because a remade SQLite table or a restored dump has upstream's indexes again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from bgtasks.models import CompletedTask, Task, Worker

# The migration that calls `tune`.
MIGRATION = "0002_indexes"

# The columns whose indexes of upstream stay: to find rows of the same call, and for pruning.
KEPT = {Task: {"task_hash"}, CompletedTask: {"run_at"}}
# The name that Django gives to the index of a field ends like this, in a hash.
DJANGOS = re.compile(r"_[0-9a-f]{8}(_like)?$")


@dataclass(frozen=True)
class Index:
    """An index on the queue.

    Attributes:
        columns: the columns as SQL, with the operator classes of PostgreSQL.
        where: a condition as SQL: only rows that meet it are in the index.
    """

    name: str
    columns: str
    where: str

    def create(self, connection: BaseDatabaseWrapper) -> str:
        columns = self.columns
        if connection.vendor != "postgresql":
            columns = columns.replace(" varchar_pattern_ops", "")
        return (
            f"CREATE INDEX {_concurrently(connection)} {self.name} ON {Task._meta.db_table} "
            f"({columns}) WHERE {self.where}"
        )


# Whoever claims reads the rows of one priority from the oldest ``run_at`` on. The priorities can be
# read in either direction. A row without a queue is in the first index only.
FREE = "locked_by IS NULL AND failed_at IS NULL"
REPEATING = "repeat > 0"
OWN_INDEXES = (
    Index("bgtasks_ready", "priority, run_at, id", FREE),
    Index("bgtasks_ready_in_queue", "queue, priority, run_at, id", f"{FREE} AND queue IS NOT NULL"),
    Index("bgtasks_held", "locked_by varchar_pattern_ops", "locked_by IS NOT NULL"),
    # For the list of repeating tasks: nearly no row is in it, so that it costs nearly nothing.
    Index("bgtasks_repeating", "id", REPEATING),
)


def tune(connection: BaseDatabaseWrapper) -> None:
    """Make our indexes and drop those of upstream that are not needed.

    Does nothing where that is done already.
    """
    if not _tables_are_there(connection):
        return
    names = _valid_names(connection, Task)
    for index in OWN_INDEXES:
        if index.name not in names:
            _drop(connection, index.name)  # a build that was broken off leaves an invalid index
            _execute(connection, index.create(connection))
    for name in _upstream_indexes(connection):
        _drop(connection, name)


def keep(connection: BaseDatabaseWrapper) -> None:
    """Tune the tables again, if they exist and nobody has undone our migration."""
    if Worker._meta.db_table not in connection.introspection.table_names():
        return
    applied = {
        name for app, name in MigrationRecorder(connection).applied_migrations() if app == "bgtasks"
    }
    # No migration is applied where a project's tests make the tables without migrations.
    if MIGRATION in applied or not applied:
        tune(connection)


def restore(connection: BaseDatabaseWrapper) -> None:
    """Make upstream's indexes again and drop ours."""
    if not _tables_are_there(connection):
        return
    editor: Any = connection.schema_editor()
    options = f"INDEX {_concurrently(connection)} IF NOT EXISTS"
    for model in KEPT:
        for field in model._meta.local_fields:
            for statement in editor._field_indexes_sql(model, field):
                _execute(connection, str(statement).replace("INDEX", options, 1))
    for index in OWN_INDEXES:
        _drop(connection, index.name)


def _tables_are_there(connection: BaseDatabaseWrapper) -> bool:
    """Whether this database has the task tables: a router may have sent them to another one."""
    tables = {model._meta.db_table for model in KEPT}
    known = connection.vendor in {"postgresql", "sqlite"}
    return known and tables <= set(connection.introspection.table_names())


def _upstream_indexes(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """The names of upstream's indexes that are not needed."""
    for model, kept in KEPT.items():
        if _may_have_others(connection, model, kept):
            for column, name in _single(connection, model):
                if column not in kept or name.endswith("_like"):
                    yield name


def _may_have_others(connection: BaseDatabaseWrapper, model: Any, kept: Iterable[str]) -> bool:
    """Whether a table has an index, to judge by the names, beside those of the kept columns.

    On SQLite, Django takes 20 ms to find the columns of a table's indexes, and `post_migrate` comes
    after each test of a project that commits.
    """
    names = {name for name in _valid_names(connection, model) if DJANGOS.search(name)}
    stay = tuple(f"{model._meta.db_table}_{column}_" for column in kept)
    return any(not name.startswith(stay) or name.endswith("_like") for name in names)


def _single(connection: BaseDatabaseWrapper, model: Any) -> list[tuple[str, str]]:
    """The column and the name of each index that Django made for one field of a table."""
    indexed = {field.column for field in model._meta.local_fields if field.db_index}
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    return [
        (about["columns"][0], name)
        for name, about in found.items()
        if about["index"] and not about["primary_key"] and not about["unique"]
        and len(about["columns"]) == 1 and about["columns"][0] in indexed and DJANGOS.search(name)
    ]  # fmt: skip


def _valid_names(connection: BaseDatabaseWrapper, model: Any) -> set[str]:
    if connection.vendor == "postgresql":
        sql = (
            "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            "WHERE indisvalid AND indrelid = %s::regclass"
        )
    else:
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [model._meta.db_table])
        return {name for (name,) in cursor.fetchall()}


def _drop(connection: BaseDatabaseWrapper, name: str) -> None:
    quoted = connection.ops.quote_name(name)
    _execute(connection, f"DROP INDEX {_concurrently(connection)} IF EXISTS {quoted}")


def _concurrently(connection: BaseDatabaseWrapper) -> str:
    """CONCURRENTLY, which keeps no enqueuer waiting; "" on SQLite and inside a transaction.

    PostgreSQL does not allow it inside a transaction.
    """
    online = connection.vendor == "postgresql" and not connection.in_atomic_block
    return "CONCURRENTLY" if online else ""


def _execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
