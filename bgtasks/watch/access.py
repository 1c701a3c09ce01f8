"""Who may watch a task: whoever has enqueued it, and staff."""

from __future__ import annotations

from typing import Any

from bgtasks.models import CompletedTask, Outcome, Task
from bgtasks.operations import snapshots
from bgtasks.operations.snapshots import Snapshot
from bgtasks.queue import creators
from bgtasks.queue import database as db


def seen_by(user: Any, task_id: int) -> Snapshot | None:
    """Where a task stands; None if there is no such task, or if this user may not know of it.

    Args:
        user: whoever is logged in, or Django's `AnonymousUser`.
    """
    if not user.is_authenticated or not user.is_active:
        return None
    if not (getattr(user, "is_staff", False) or _has_created(user, task_id)):
        return None
    return snapshots.of([task_id]).get(task_id)


def _has_created(user: Any, task_id: int) -> bool:
    waiting = Task.objects.using(db.alias()).filter(pk=task_id)
    if creators.created_by(waiting, user).exists():
        return True
    outcome = Outcome.objects.using(db.alias()).filter(pk=task_id)
    ended = CompletedTask.objects.using(db.alias()).filter(pk__in=outcome.values("completed_id"))
    return creators.created_by(ended, user).exists()
