"""Slots: for each task with a crontab line, the last time for which a row was enqueued.

They are stored in UTC, even where the project stores local dates (`USE_TZ` is off): in the night
in which the clocks are set back, the same local date comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from bgtasks.models import CronSlot, Task
from bgtasks.queue import database as db

SLOTS = CronSlot._meta.db_table
# A slot is refused if it lies more than so many seconds ahead of the database's clock. Otherwise a
# host whose clock is years ahead would use up all slots of those years.
EARLY = 60.0
# A stored slot that lies further ahead of the database's clock than this is taken for the mistake
# of a clock, and is set back.
TOO_FAR = timedelta(days=1)
# The age in seconds of a slot in the year 1: no slot that Python can hold is much older.
OLDEST = timedelta(days=366 * 2100).total_seconds()


def first_seen(name: str, now: datetime) -> bool:
    """Store ``now`` as the slot of a task that has none yet, so that earlier slots are skipped.

    Returns:
        Whether the task had no slot, and ``now`` was stored.
    """
    sql = f"INSERT INTO {SLOTS} (name, slot) VALUES (%s, %s) ON CONFLICT DO NOTHING"
    return bool(db.execute(sql, [name, _stored(now)]))


# Stands for a stored slot that is no date, or that Python cannot hold.
UNREADABLE = datetime.max.replace(tzinfo=UTC)


def last_slots(names: Iterable[str]) -> dict[str, datetime]:
    """The stored slot of each of these tasks that has one, in UTC and cut to whole seconds.

    A slot that cannot be read is `UNREADABLE`.
    """
    seconds = (
        "FLOOR(EXTRACT(EPOCH FROM slot))"
        if db.on_postgresql()
        else "CAST(STRFTIME('%%s', slot) AS INTEGER)"
    )
    sql = f"SELECT name, {seconds} FROM {SLOTS} WHERE {db.is_member('name', 'varchar')}"
    rows = db.fetch(sql, [db.members(names)])
    return {name: _read(at) for name, at in rows}


def last_tasks(names: Iterable[str]) -> dict[str, int]:
    """The id of the task that was enqueued last for each of these names, as far as it is known."""
    rows = CronSlot.objects.using(db.alias()).filter(pk__in=list(names))
    found = rows.values_list("name", "task_id")
    return {name: task_id for name, task_id in found if task_id is not None}


def _read(seconds: Any) -> datetime:
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (TypeError, ValueError, ArithmeticError, OSError):
        return UNREADABLE


def enqueue_slot(name: str, slot: datetime, insert: Callable[[], Task]) -> bool:
    """Enqueue a task for a slot, unless a worker has done so for this slot or a later one.

    One transaction moves the task's `CronSlot` forward and inserts the row. So exactly one of any
    number of workers does it, and it never does only half of it.

    Args:
        name: the task's name.
        insert: inserts the row, and returns it; called inside the transaction.

    Returns:
        Whether the row was inserted.
    """
    with transaction.atomic(using=db.alias()):
        ahead = f"{db.age('%s', utc=True)} > %s"
        sql = f"UPDATE {SLOTS} SET slot = %s WHERE name = %s AND slot < %s AND {ahead} "
        sql += "AND paused_at IS NULL"
        at = _stored(slot)
        if not db.execute(sql, [at, name, at, at, -EARLY]):
            return False
        row = insert()
        db.execute(f"UPDATE {SLOTS} SET task_id = %s WHERE name = %s", [row.pk, name])
        return True


def pause(name: str) -> bool:
    """Have nothing enqueued by a task's cron line, until `resume`; returns whether it was changed.

    Args:
        name: the task's name. If no worker has seen its cron line yet, it is paused all the same.
    """
    first_seen(name, datetime.now(UTC))
    sql = f"UPDATE {SLOTS} SET paused_at = %s WHERE name = %s AND paused_at IS NULL"
    return bool(db.execute(sql, [db.moment(timezone.now()), name]))


def resume(name: str) -> bool:
    """Have a task enqueued by its cron line again; returns whether it was paused.

    What came in between is not made up for: the slots are counted from now on.
    """
    sql = (
        f"UPDATE {SLOTS} SET paused_at = NULL, slot = %s WHERE name = %s AND paused_at IS NOT NULL"
    )
    return bool(db.execute(sql, [_stored(datetime.now(UTC)), name]))


def paused() -> dict[str, datetime]:
    """Since when cron lines are paused, by the names of their tasks."""
    rows = CronSlot.objects.using(db.alias()).filter(paused_at__isnull=False)
    return {name: at for name, at in rows.values_list("name", "paused_at") if at}


def set_back(name: str) -> bool:
    """Set a task's slot to now, if it cannot be read or is `TOO_FAR` ahead of the database's clock.

    Returns:
        Whether the slot was set to now.
    """
    age = db.age("slot", utc=True)
    odd = f"COALESCE(NOT ({age} BETWEEN %s AND %s), 1 = 1)"
    sql = f"UPDATE {SLOTS} SET slot = {db.clock(utc=True)} WHERE name = %s AND {odd}"
    return bool(db.execute(sql, [name, -TOO_FAR.total_seconds(), OLDEST]))


def _stored(moment: datetime) -> Any:
    """A moment as a parameter, in UTC whatever `USE_TZ` says."""
    moment = moment.astimezone(UTC)
    return moment if db.on_postgresql() else str(moment.replace(tzinfo=None))
