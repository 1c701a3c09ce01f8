"""At most one row for each key, waiting or running, however many enqueue at once.

The key's row is locked by whoever enqueues, until that transaction ends. Whether the task that it
names has ended is read from its outcome, which nobody takes back; a task without one is looked for
in the queue, in a statement of its own: on PostgreSQL the first one does not see what was committed
while it waited for the lock.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Any

from background_task.models import Task
from django.utils import timezone

from bgtasks.models import UniqueKey
from bgtasks.queue import database as db
from bgtasks.serialize import codec

KEYS = UniqueKey._meta.db_table
# For a moment, of a key that was there and then was pruned.
NO_ID = 0


def key_of(task_name: str, value: Any) -> str:
    """What is stored for a key.

    Raises:
        TypeError, ValueError: the value is not JSON.
    """
    return sha256(f"{task_name}\n{codec.dumps(value)}".encode()).hexdigest()


def take(key: str) -> tuple[int, bool]:
    """Take a key for a row that is about to be inserted. Call it inside a transaction.

    Returns:
        The id that the row is to have, and True; or of the row that has the key, and False.
    """
    task_id, nonce = _upsert(key, mine := secrets.randbits(62))
    if nonce == mine and task_id != NO_ID:
        return task_id, True
    fresh, params = _fresh_id()
    gone = db.fetch(
        f"UPDATE {KEYS} SET task_id = {fresh}, nonce = %s, taken_at = %s WHERE key = %s "
        f"AND NOT EXISTS (SELECT 1 FROM {db.TASKS} WHERE id = {KEYS}.task_id) RETURNING task_id",
        [*params, mine, db.moment(timezone.now()), key],
    )
    return (gone[0][0], True) if gone else (task_id, False)


def _upsert(key: str, nonce: int) -> tuple[int, int]:
    """Lock the key's row; it is ours if it is new, or if what it named has ended."""
    fresh, params = _fresh_id()
    ended = (
        f"EXISTS (SELECT 1 FROM {db.OUTCOMES} WHERE {db.OUTCOMES}.task_id = {KEYS}.task_id "
        f"AND {db.is_current()})"
    )
    changes = ", ".join(
        f"{name} = CASE WHEN {ended} THEN {new} ELSE {KEYS}.{name} END"
        for name, new in {
            "task_id": fresh,
            "nonce": "excluded.nonce",
            "taken_at": "excluded.taken_at",
        }.items()
    )
    # A call that is refused, which may be most of them, is to use up no id.
    first = f"CASE WHEN EXISTS (SELECT 1 FROM {KEYS} WHERE key = %s) THEN {NO_ID} ELSE {fresh} END"
    ((task_id, kept),) = db.fetch(
        f"INSERT INTO {KEYS} (key, task_id, nonce, taken_at) SELECT %s, {first}, %s, %s "
        f"WHERE true ON CONFLICT (key) DO UPDATE SET {changes} RETURNING task_id, nonce",
        [key, key, *params, nonce, db.moment(timezone.now()), *params],
    )
    return task_id, kept


def pass_on(task_id: int, following: int) -> None:
    """A repeating row hands its key to its next run."""
    db.execute(f"UPDATE {KEYS} SET task_id = %s WHERE task_id = %s", [following, task_id])


def _fresh_id() -> tuple[str, list[Any]]:
    """SQL for an id that no row has had. On SQLite the statement holds the write lock."""
    if db.on_postgresql():
        return "nextval((SELECT pg_get_serial_sequence(%s, 'id')))", [f'"{db.TASKS}"']
    given_out = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s"
    return (
        f"MAX(({given_out}), (SELECT COALESCE(MAX(id), 0) FROM {db.TASKS})) + 1",
        [db.TASKS],
    )


def holder(task_id: int) -> Task | None:
    """The row that has a key; None if it has ended by now."""
    row: Task | None = Task.objects.using(db.alias()).filter(pk=task_id).first()
    return row
