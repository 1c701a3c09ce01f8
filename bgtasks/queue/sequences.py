"""The id of a row is also that of its result: an id that was given out must not come again.

The ids of a task table that was remade, or restored without its sequence, would begin anew. Then
whoever asks for the result of a new task would get that of an old one, and a new row would find in
our tables what they keep of an old one.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks.models import (
    Action,
    Attempt,
    CallOptions,
    Child,
    CompletedTask,
    Creator,
    IdMark,
    Outcome,
    Progress,
    Revocation,
    Task,
    UniqueKey,
)

TASKS = Task._meta.db_table
COMPLETED = CompletedTask._meta.db_table
OUTCOMES = Outcome._meta.db_table
# The tables that name a row by its id, in their column ``task_id``.
NAMING = [
    model._meta.db_table
    for model in (
        *(Action, Attempt, CallOptions, Child, Creator),
        *(IdMark, Outcome, Progress, Revocation, UniqueKey),
    )
]


# Ids within this distance of a sequence's end are ignored.
LAST = 1_000_000


def lift(connection: BaseDatabaseWrapper) -> None:
    """Make sure that the next row, and the next completed one, get ids above all that are known.

    That is: above all ids that any table has, or names. But an id beyond the end of the sequence,
    or among its last ones, does not count. We assume that somebody wrote it by hand, and to lift
    the sequence above it would use the sequence up.
    """
    tables = connection.introspection.table_names()
    if TASKS not in tables:
        return
    tops = [(TASKS, "id"), *((table, "task_id") for table in NAMING if table in tables)]
    _lift(connection, TASKS, tops)
    if OUTCOMES in tables:
        _lift(connection, COMPLETED, [(COMPLETED, "id"), (OUTCOMES, "completed_id")])


def _lift(connection: BaseDatabaseWrapper, table: str, columns: list[tuple[str, str]]) -> None:
    """Lift the sequence of a table above what these columns, of these tables, have."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [f'"{table}"'])
            sequence = cursor.fetchone()[0]
            cursor.execute(
                f"SELECT last_value, seqmax - {LAST} FROM pg_sequence, " + sequence +
                " WHERE seqrelid = %s::regclass", [sequence],
            )  # fmt: skip
            last, limit = cursor.fetchone()
        else:
            limit = 2**62
        tops = [
            f"SELECT MAX({column}) AS id FROM {name} WHERE {column} < {limit}"
            for name, column in columns
        ]
        cursor.execute(f"SELECT MAX(id) FROM ({' UNION ALL '.join(tops)}) AS tops")
        highest = cursor.fetchone()[0]
        if highest and connection.vendor == "postgresql":
            if last < highest:
                cursor.execute("SELECT setval(%s, %s)", [sequence, highest])
        elif highest and connection.vendor == "sqlite":
            cursor.execute(
                "UPDATE sqlite_sequence SET seq = %s WHERE name = %s AND seq < %s",
                [highest, table, highest],
            )
            cursor.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT %s, %s WHERE NOT EXISTS "
                "(SELECT 1 FROM sqlite_sequence WHERE name = %s)",
                [table, highest, table],
            )
