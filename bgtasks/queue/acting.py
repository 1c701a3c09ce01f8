"""What operators do to tasks: run them now, cancel, move, change the priority, delete ended ones.

Each function takes ids that may be stale: what has ended meanwhile, or is held by a worker, is left
as it is. Each logs an `Action` for every task that it has changed, in the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from background_task.models import Task
from django.db import transaction
from django.utils import timezone

from bgtasks.models import Action
from bgtasks.queue import call_options, notify, outcomes, pruning
from bgtasks.queue import database as db
from bgtasks.queue.deliveries import RECALL, WAITS
from bgtasks.tasks.columns import as_priority, check_text

# How many tasks one transaction changes: on SQLite it keeps every other writer waiting. And for how
# many seconds whoever changes many leaves the lock to others after each transaction.
ON_SQLITE, ON_POSTGRESQL = 500, 2000
PAUSE = 0.01


def batch() -> int:
    """How many tasks to give to one call of the functions here, or of `retrying.retry`."""
    return ON_POSTGRESQL if db.on_postgresql() else ON_SQLITE


def leave_room() -> None:
    """Between two batches, on SQLite: let others write, who do not queue for the lock."""
    if not db.on_postgresql():
        time.sleep(PAUSE)


def log(ids: Sequence[int], kind: Action.Kind, by: str, detail: str = "") -> None:
    """Log what was done to tasks."""
    now = timezone.now()
    Action.objects.using(db.alias()).bulk_create(
        Action(task_id=pk, kind=kind, by=by[:150], at=now, detail=detail[:255]) for pk in ids
    )


def cancel(ids: Sequence[int], by: str = "", terminate: bool = False) -> list[int]:
    """Cancel tasks that have not ended; returns the ids of those that were cancelled.

    Args:
        by: who does it, for the log of actions.
        terminate: cancel also what a worker has; see `bgtasks.AsyncResult.revoke`.
    """
    done = []
    for pk in _possible(ids):
        with db.write_transaction():
            if outcomes.revoke(pk, terminate):
                log([pk], Action.Kind.CANCELLED, by)
                done.append(pk)
    return done


def run_now(ids: Sequence[int], by: str = "") -> list[int]:
    """Make tasks due that wait; returns their ids. A repeating task keeps its time table."""
    repeating = Task.objects.using(db.alias()).filter(pk__in=_possible(ids), repeat__gt=0)
    with db.write_transaction():
        for row in repeating.defer("run_at"):
            call_options.keep_slot(row)
        now = db.moment(timezone.now())
        return _change(ids, "run_at = %s", now, Action.Kind.RUN_NOW, by, "")


def set_priority(ids: Sequence[int], priority: int, by: str = "") -> list[int]:
    """Give tasks that wait another priority; returns their ids.

    Raises:
        InvalidOption: it is no number that the column can hold.
    """
    priority = as_priority("The new priority", priority)
    kind = Action.Kind.PRIORITY
    return _change(ids, "priority = %s", priority, kind, by, f"to {priority}")


def move(ids: Sequence[int], queue: str | None, by: str = "") -> list[int]:
    """Move tasks that wait to another queue; returns their ids.

    Args:
        queue: its name; None or empty: no queue.

    Raises:
        InvalidOption: it is no name that the column can hold.
    """
    check_text(queue or None, "a task", "queue")
    detail = f"to {queue}" if queue else "to no queue"
    return _change(ids, "queue = %s", queue or None, Action.Kind.MOVED, by, detail)


def delete_ended(ids: Sequence[int], by: str = "") -> list[int]:
    """Delete all that is kept of tasks that have ended; returns their ids.

    What waits or runs is left as it is: nothing is deleted beneath its worker.
    """
    with db.write_transaction():
        ended = dict(
            db.fetch(
                f"SELECT task_id, completed_id FROM {db.OUTCOMES} "
                f"WHERE {db.is_member('task_id', 'bigint')} AND {db.is_current()}",
                [db.members(_possible(ids))],
            )
        )
        pruning.forget(ended)
        log(sorted(ended), Action.Kind.DELETED, by)
    return sorted(ended)


def _change(
    ids: Sequence[int], change: str, value: Any, kind: Action.Kind, by: str, detail: str
) -> list[int]:
    with transaction.atomic(using=db.alias()):
        rows = db.fetch(
            f"UPDATE {db.TASKS} SET {change}, {RECALL} WHERE {db.is_member('id', 'bigint')} "
            f"AND {WAITS} RETURNING id",
            [value, db.members(_possible(ids))],
        )
        done = sorted(pk for (pk,) in rows)
        log(done, kind, by, detail)
        notify.notify_workers()
    return done


def _possible(ids: Sequence[int]) -> list[int]:
    return [pk for pk in ids if outcomes.id_of(pk) is not None]
