"""At most one row for each key, waiting or running, however many enqueue at once.

Whoever enqueues locks the key's row in `UniqueKey` until the transaction ends. That row names a
task. If the task has an outcome, it has ended, for good. Only if it has none is its row searched in
the queue, by a second statement: on PostgreSQL the first statement does not see what others
committed while it waited for the lock.

The key's row also has the ``task_hash`` of the row that it names. If the task table was emptied and
its ids began anew, the row of that id may be one of another call: then the key is free.

An older version of bgtasks, which may run beside this one, takes a key with a new nonce and does
not write the hash. So the hash counts only with the nonce with which it was stored. Where a key is
passed on to the next run, both stay: that run is the same call, and has the same hash.
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
# The task_id that a key gets for a moment, if it existed when a statement began and was pruned
# before the statement could lock it.
NO_ID = 0
# SQL for whether a key's hash is of the row that it names. NULL, as of an older version, is no.
HASH_COUNTS = f"{KEYS}.hash_of = {KEYS}.nonce"


def key_of(task_name: str, value: Any) -> str:
    """The text that is stored for the key of a call.

    Raises:
        TypeError, ValueError, RecursionError: the value cannot be written as JSON.
    """
    return sha256(f"{task_name}\n{codec.dumps(value)}".encode()).hexdigest()


def take(key: str, row: Task) -> tuple[int, bool]:
    """Take a key for a row that is about to be inserted. Call it inside a transaction.

    Returns:
        The id that the new row must get, and True. Or, if another row has the key, the id of that
        row, and False.
    """
    task_id, nonce = _upsert(key, row.task_hash, mine := secrets.randbits(62))
    if nonce == mine and task_id != NO_ID:
        return task_id, True
    fresh, params = _fresh_id()
    gone = db.fetch(
        f"UPDATE {KEYS} SET task_id = {fresh}, nonce = %s, taken_at = %s, task_hash = %s, "
        f"hash_of = %s WHERE key = %s "
        f"AND NOT EXISTS (SELECT 1 FROM {db.TASKS} WHERE id = {KEYS}.task_id "
        f"AND CASE WHEN {HASH_COUNTS} THEN {db.TASKS}.task_hash = {KEYS}.task_hash "
        f"ELSE {db.TASKS}.task_name = %s END) RETURNING task_id",
        [*params, mine, db.moment(timezone.now()), row.task_hash, mine, key, row.task_name],
    )
    return (gone[0][0], True) if gone else (task_id, False)


def _upsert(key: str, task_hash: str, nonce: int) -> tuple[int, int]:
    """Lock the key's row, and take the key if it is new or if the task that it named has ended.

    Returns:
        The task and the nonce that the key's row has now. The nonce is ours if we took the key.
    """
    fresh, params = _fresh_id()
    # With EXISTS, PostgreSQL would make two plans, each with all partitions of the outcomes.
    ended = (
        f"(SELECT 1 FROM {db.OUTCOMES} WHERE {db.OUTCOMES}.task_id = {KEYS}.task_id "
        f"AND {db.is_current()} LIMIT 1) IS NOT NULL"
    )
    changes = {
        "task_id": fresh,
        "nonce": "excluded.nonce",
        "taken_at": "excluded.taken_at",
        "task_hash": "excluded.task_hash",
        "hash_of": "excluded.hash_of",
    }
    values = ", ".join(
        f"CASE WHEN has_ended THEN {new} ELSE {KEYS}.{name} END" for name, new in changes.items()
    )
    # A call whose key is taken must use up no id, for there may be very many of those.
    first = f"CASE WHEN EXISTS (SELECT 1 FROM {KEYS} WHERE key = %s) THEN {NO_ID} ELSE {fresh} END"
    ((task_id, kept),) = db.fetch(
        f"INSERT INTO {KEYS} (key, task_id, nonce, taken_at, task_hash, hash_of) "
        f"SELECT %s, {first}, %s, %s, %s, %s "
        f"WHERE true ON CONFLICT (key) DO UPDATE SET ({', '.join(changes)}) = "
        f"(SELECT {values} FROM (SELECT {ended} AS has_ended) AS its) RETURNING task_id, nonce",
        [key, key, *params, nonce, db.moment(timezone.now()), task_hash, nonce, *params],
    )
    return task_id, kept


def pass_on(row: Task, following: Task) -> None:
    """Give the key of a repeating row, if it has one, to the row of its next run."""
    db.execute(
        f"UPDATE {KEYS} SET task_id = %s WHERE task_id = %s "
        f"AND CASE WHEN {HASH_COUNTS} THEN task_hash = %s ELSE true END",
        [following.pk, row.pk, row.task_hash],
    )


def _fresh_id() -> tuple[str, list[Any]]:
    """SQL, and its parameters, for an id that no row has had.

    On SQLite no other connection can take the same id: the statement holds the write lock.
    """
    if db.on_postgresql():
        return "nextval((SELECT pg_get_serial_sequence(%s, 'id')))", [f'"{db.TASKS}"']
    given_out = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = %s"
    return (
        f"MAX(({given_out}), (SELECT COALESCE(MAX(id), 0) FROM {db.TASKS})) + 1",
        [db.TASKS],
    )


def holder(task_id: int) -> Task | None:
    """The row of this id, which has the key; None if it has ended by now."""
    row: Task | None = Task.objects.using(db.alias()).filter(pk=task_id).first()
    return row
