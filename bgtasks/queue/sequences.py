"""The id of a row is also that of its result: an id that was given out must not come again.

The ids of a task table that was remade, or restored without its sequence, would begin anew. Then
whoever asks for the result of a new task would get that of an old one.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks.models import Outcome, Task

TASKS, OUTCOMES = Task._meta.db_table, Outcome._meta.db_table


def lift(connection: BaseDatabaseWrapper) -> None:
    """Make sure that the next row gets an id above those of all outcomes."""
    tables = connection.introspection.table_names()
    if TASKS not in tables or OUTCOMES not in tables:
        return
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COALESCE(MAX(task_id), 0) FROM {OUTCOMES}")
        highest = cursor.fetchone()[0]
        if highest and connection.vendor == "postgresql":
            cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [f'"{TASKS}"'])
            sequence = cursor.fetchone()[0]
            cursor.execute(f"SELECT last_value FROM {sequence}")
            if cursor.fetchone()[0] < highest:
                cursor.execute("SELECT setval(%s, %s)", [sequence, highest])
        elif highest and connection.vendor == "sqlite":
            cursor.execute(
                "UPDATE sqlite_sequence SET seq = %s WHERE name = %s AND seq < %s",
                [highest, TASKS, highest],
            )
            cursor.execute(
                "INSERT INTO sqlite_sequence (name, seq) SELECT %s, %s WHERE NOT EXISTS "
                "(SELECT 1 FROM sqlite_sequence WHERE name = %s)",
                [TASKS, highest, TASKS],
            )
