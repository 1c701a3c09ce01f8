"""Reading what became of a task, and calling one off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from background_task.models import Task
from django.db import transaction
from django.utils import timezone

from bgtasks.models import CompletedTask, Outcome, Revocation
from bgtasks.queue import claims, pruning
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending
from bgtasks.queue.finish import record_alone

# Who holds a row for the moment in which it is called off.
REVOKER = f"{db.WORKER_PREFIX}revoked.1-1"


@dataclass(frozen=True)
class State:
    """Where a task stands.

    Attributes:
        outcome: None as long as its row is in the queue.
        running: a worker holds the row; it may not have started it yet.
    """

    attempts: int
    outcome: str | None = None
    running: bool = False
    result: str | None = None
    exception: str | None = None
    completed_id: int | None = None


LARGEST = 2**63 - 1


def id_of(text: int | str) -> int | None:
    """A task's id from what may come from a URL; None of what no row can have."""
    digits = str(text)
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return None
    return task_id if (task_id := int(digits)) <= LARGEST else None


def find(id_: int | str) -> State | None:
    """Where a task stands; None if it never was, was deleted or pruned."""
    if (task_id := id_of(id_)) is None:
        return None  # which a database may refuse to look for
    rows = db.fetch(
        "SELECT state, attempts, false, result, exception, completed_id "
        f"FROM {db.OUTCOMES} WHERE task_id = %s AND {db.is_current()} UNION ALL "
        "SELECT NULL, attempts, locked_by IS NOT NULL, NULL, NULL, NULL "
        f"FROM {db.TASKS} WHERE id = %s AND failed_at IS NULL",
        [task_id, task_id],
    )
    # While its ending is being written, whoever does that sees both.
    for state, attempts, running, result, exception, completed_id in sorted(rows, key=_in_queue):
        return State(attempts, state, bool(running), result, exception, completed_id)
    return None


def _in_queue(row: tuple[Any, ...]) -> bool:
    return row[0] is None


def outcome_of(task_id: int) -> Outcome | None:
    """A task's outcome, if it has one."""
    rows = Outcome.objects.using(db.alias()).filter(pk=task_id)
    found: Outcome | None = rows.extra(where=[db.is_current()]).first()  # noqa: S610  (constant)
    return found


def ended_of(ids: Sequence[int]) -> list[int]:
    """Those of some tasks that have an outcome."""
    sql = (
        f"SELECT task_id FROM {db.OUTCOMES} WHERE {db.is_member('task_id', 'bigint')} "
        f"AND {db.is_current()}"
    )
    return [task_id for (task_id,) in db.fetch(sql, [db.members(ids)])]


def story(completed_id: int | None) -> str:
    """The traceback, or whatever else is told of a failure."""
    rows = CompletedTask.objects.using(db.alias()).filter(pk=completed_id)
    return rows.values_list("last_error", flat=True).first() or ""


def trouble(task_id: int) -> str:
    """The last line of what is told of a waiting task's last attempt."""
    rows = Task.objects.using(db.alias()).filter(pk=task_id)
    told = rows.values_list("last_error", flat=True).first() or ""
    return told.strip().rpartition("\n")[2]


def revoke(task_id: int, terminate: bool) -> bool:
    """Call a task off: it gets its outcome here and now.

    Args:
        terminate: also if a worker has it. That loses the row, so that nothing is recorded of
            the run, and is asked to end it.

    Returns:
        Whether it was called off; not if it has ended, or a worker has it.
    """
    with transaction.atomic(using=db.alias()):
        row = Task.objects.using(db.alias()).filter(pk=task_id, failed_at=None).first()
        if row is None:
            return False
        taken = claims.take_over(row, REVOKER, row.locked_by if terminate else None)
        if taken is None:
            return False
        if taken:
            _ask_to_end(task_id, taken)
        return record_alone(Ending(row, cancelled=True, error="Cancelled: it was revoked"))


def _ask_to_end(task_id: int, claim: str) -> None:
    worker = claim.partition(".")[0][:32]
    Revocation.objects.using(db.alias()).update_or_create(
        pk=task_id, defaults={"worker": worker, "requested_at": timezone.now()}
    )


def forget(task_id: int) -> bool:
    """Delete what is kept of a task that has ended; returns whether there was something."""
    completed = Outcome.objects.using(db.alias()).filter(pk=task_id)
    batch: dict[int, Any] = dict(completed.values_list("task_id", "completed_id"))
    if batch:
        pruning.forget(batch)
    return bool(batch)


def revoked(worker: str) -> list[int]:
    """The tasks that a worker is asked to end. Each is told once."""
    rows = Revocation.objects.using(db.alias()).filter(worker=worker)
    ids = list(rows.values_list("pk", flat=True))
    if ids:
        rows.filter(pk__in=ids).delete()
    return ids
