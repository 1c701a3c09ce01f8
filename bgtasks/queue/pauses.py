"""Paused queues: no worker claims rows from them until they are resumed, and enqueuing goes on.

The statement that claims rows reads the pauses itself, so that a pause holds from the next claim
on. What is running runs to its end, and what a worker has claimed already is started.
"""

from __future__ import annotations

from django.utils import timezone

from bgtasks.models import PausedQueue
from bgtasks.queue import database as db
from bgtasks.queue import notify

# How the rows without a queue are named here.
NO_QUEUE = ""
# SQL for whether a row of the task table is in no paused queue.
NOT_PAUSED = (
    f"COALESCE({db.TASKS}.queue, '{NO_QUEUE}') NOT IN (SELECT queue FROM "
    f"{PausedQueue._meta.db_table})"
)


def pause(queue: str, by: str = "") -> bool:
    """Have no worker claim rows of a queue; returns whether it was not paused before.

    Args:
        queue: its name; `NO_QUEUE` for the rows without one.
        by: who does it, for the operators.
    """
    return PausedQueue.objects.using(db.alias()).get_or_create(
        queue=queue, defaults={"by": by[:150], "at": timezone.now()}
    )[1]


def resume(queue: str) -> bool:
    """Have workers claim rows of a queue again; returns whether it was paused."""
    resumed = PausedQueue.objects.using(db.alias()).filter(queue=queue).delete()[0]
    notify.notify_workers()
    return bool(resumed)


def paused() -> list[PausedQueue]:
    """The paused queues, by name."""
    return list(PausedQueue.objects.using(db.alias()).order_by("queue"))
