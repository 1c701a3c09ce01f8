"""Which time of its crontab line a task was enqueued for last.

Kept in UTC also where the project's dates are local (`USE_TZ` is off), for those are the same
twice in the night in which the clocks are set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from bgtasks.models import CronSlot
from bgtasks.queue import database as db

SLOTS = CronSlot._meta.db_table
# How many seconds a slot may lie ahead of the database's clock. A host whose clock is wrong by
# years would otherwise use up all slots until then.
EARLY = 60.0
# A slot that lies further ahead than this was written by a clock that was wrong.
TOO_FAR = timedelta(days=1)


def first_seen(name: str, now: datetime) -> bool:
    """Begin with a task's slots, unless that was done; those before ``now`` are nobody's.

    Returns:
        Whether it was not.
    """
    sql = f"INSERT INTO {SLOTS} (name, slot) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    return bool(db.execute(sql, [name, _stored(now)]))


def last_slots(names: Iterable[str]) -> dict[str, datetime]:
    """The last slot of each task that was seen, in UTC and in whole seconds."""
    seconds = (
        "FLOOR(EXTRACT(EPOCH FROM slot))"
        if db.on_postgresql()
        else "CAST(STRFTIME('%%s', slot) AS INTEGER)"
    )
    sql = f"SELECT name, {seconds} FROM {SLOTS} WHERE {db.is_member('name', 'varchar')}"
    rows = db.fetch(sql, [db.members(names)])
    return {name: datetime.fromtimestamp(int(at), UTC) for name, at in rows}


def enqueue_slot(name: str, slot: datetime, insert: Callable[[], object]) -> bool:
    """Insert the row of a slot, unless somebody did that of this slot or a later one.

    The one row of `CronSlot` moves forward in the transaction that inserts, so that of any number
    of workers one does it, and none without the other.

    Args:
        insert: inserts the row.

    Returns:
        Whether it was inserted.
    """
    with transaction.atomic(using=db.alias()):
        ahead = f"{db.age('%s', utc=True)} > %s"
        sql = f"UPDATE {SLOTS} SET slot = %s WHERE name = %s AND slot < %s AND {ahead}"
        at = _stored(slot)
        if not db.execute(sql, [at, name, at, at, -EARLY]):
            return False
        insert()
        return True


def set_back(name: str) -> bool:
    """Set a slot that lies too far ahead of the database's clock to now."""
    ahead = f"{db.age('slot', utc=True)} < %s"
    sql = f"UPDATE {SLOTS} SET slot = {db.clock(utc=True)} WHERE name = %s AND {ahead}"
    return bool(db.execute(sql, [name, -TOO_FAR.total_seconds()]))


def _stored(moment: datetime) -> Any:
    """A moment as a parameter, in UTC whatever `USE_TZ` says."""
    moment = moment.astimezone(UTC)
    return moment if db.on_postgresql() else str(moment.replace(tzinfo=None))
