"""The indexes of the task tables: few, and those that a claim needs.

django-background-tasks has one on every column, fourteen a table on PostgreSQL, and each costs
every enqueue, claim and finish a write. Its tables are tuned by a migration, and after every
`migrate`, for a remade SQLite table or a restored dump comes with the indexes of its models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from bgtasks.models import CompletedTask, Task, Worker

# The one that calls `tune`.
MIGRATION = "0002_indexes"

# What else reads the tables by a column: calls of the same task, and pruning.
KEPT = {Task: {"task_hash"}, CompletedTask: {"run_at"}}
# How Django names the index of a field: it ends in a hash.
DJANGOS = re.compile(r"_[0-9a-f]{8}(_like)?$")


@dataclass(frozen=True)
class Index:
    """An index on the queue.

    Attributes:
        columns: SQL; on PostgreSQL with the operator class.
        where: SQL; only these rows are in it.
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


# A level of priority is read from its oldest row on, by whoever claims and in either order of
# the levels. A row with no queue is in the first index only.
FREE = "locked_by IS NULL AND failed_at IS NULL"
OWN_INDEXES = (
    Index("bgtasks_ready", "priority, run_at, id", FREE),
    Index("bgtasks_ready_in_queue", "queue, priority, run_at, id", f"{FREE} AND queue IS NOT NULL"),
    Index("bgtasks_held", "locked_by varchar_pattern_ops", "locked_by IS NOT NULL"),
)


def tune(connection: BaseDatabaseWrapper) -> None:
    """Make our indexes and drop the stock ones. Does nothing where that is done already."""
    if not _tables_are_there(connection):
        return
    names = _valid_names(connection)
    for index in OWN_INDEXES:
        if index.name not in names:
            _drop(connection, index.name)  # left invalid by a build that was broken off
            _execute(connection, index.create(connection))
    for name in _upstream_indexes(connection):
        _drop(connection, name)


def keep(connection: BaseDatabaseWrapper) -> None:
    """Tune the tables again, if they are there and nobody has undone our migration."""
    if Worker._meta.db_table not in connection.introspection.table_names():
        return
    applied = {
        name for app, name in MigrationRecorder(connection).applied_migrations() if app == "bgtasks"
    }
    # None are where a project's tests make tables without migrations.
    if MIGRATION in applied or not applied:
        tune(connection)


def restore(connection: BaseDatabaseWrapper) -> None:
    """Make the stock indexes again and drop ours."""
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
    """Whether this is a database of ours; a router may have sent the tables to another one."""
    tables = {model._meta.db_table for model in KEPT}
    known = connection.vendor in {"postgresql", "sqlite"}
    return known and tables <= set(connection.introspection.table_names())


def _upstream_indexes(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """The names of the stock indexes that are not needed."""
    for model, kept in KEPT.items():
        for column, name in _single(connection, model):
            if column not in kept or name.endswith("_like"):
                yield name


def _single(connection: BaseDatabaseWrapper, model: Any) -> list[tuple[str, str]]:
    """The column and the name of each index that Django made for one field of a table."""
    indexed = {field.column for field in model._meta.local_fields if field.db_index}
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    return [
        (told["columns"][0], name)
        for name, told in found.items()
        if told["index"] and not told["primary_key"] and not told["unique"]
        and len(told["columns"]) == 1 and told["columns"][0] in indexed and DJANGOS.search(name)
    ]  # fmt: skip


def _valid_names(connection: BaseDatabaseWrapper) -> set[str]:
    if connection.vendor == "postgresql":
        sql = (
            "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            "WHERE indisvalid AND indrelid = %s::regclass"
        )
    else:
        sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = %s"
    with connection.cursor() as cursor:
        cursor.execute(sql, [Task._meta.db_table])
        return {name for (name,) in cursor.fetchall()}


def _drop(connection: BaseDatabaseWrapper, name: str) -> None:
    quoted = connection.ops.quote_name(name)
    _execute(connection, f"DROP INDEX {_concurrently(connection)} IF EXISTS {quoted}")


def _concurrently(connection: BaseDatabaseWrapper) -> str:
    """On PostgreSQL, without keeping enqueuers waiting; which a transaction does not allow."""
    online = connection.vendor == "postgresql" and not connection.in_atomic_block
    return "CONCURRENTLY" if online else ""


def _execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
