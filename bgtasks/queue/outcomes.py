"""Reading what became of a task, and revoking one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from background_task.models import Task
from django.db import DataError, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from bgtasks.exceptions import UnreadableResult
from bgtasks.models import CompletedTask, Outcome, Revocation
from bgtasks.queue import claims, progress, pruning
from bgtasks.queue import database as db
from bgtasks.queue.deliveries import IS_RUNNING, is_published
from bgtasks.queue.ending import Ending
from bgtasks.queue.finish import record_alone
from bgtasks.serialize import codec
from bgtasks.serialize.tracebacks import gist

# The claim that holds a row while it is being revoked.
REVOKER = f"{db.WORKER_PREFIX}revoked.1-1"


@dataclass(frozen=True)
class State:
    """Where a task stands.

    Attributes:
        task_id: the task's id.
        attempts: how many runs there were, with the one under way.
        outcome: an `Outcome.State`; None as long as the row is in the queue.
        running: a worker holds the row. It may not have started it yet.
        result: what the task returned, as JSON; None for None.
        exception: what it raised, as `bgtasks.serialize.remote_errors.describe` gives it.
        completed_id: the id of its completed row; None as long as there is none.
    """

    task_id: int
    attempts: int
    outcome: str | None = None
    running: bool = False
    result: str | None = None
    exception: str | None = None
    completed_id: int | None = None


LARGEST = 2**63 - 1


def id_of(text: int | str) -> int | None:
    """A task's id from a number, or from text that may come from a URL.

    None if no row can have such an id.
    """
    digits = str(text)
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return None
    return task_id if (task_id := int(digits)) <= LARGEST else None


def find(id_: int | str) -> State | None:
    """Where a task stands; None if it never existed, was deleted, or was pruned."""
    if (task_id := id_of(id_)) is None:
        return None  # a database may refuse such an id with an error
    rows = db.fetch(
        "SELECT state, attempts, false, result, exception, completed_id "
        f"FROM {db.OUTCOMES} WHERE task_id = %s AND {db.is_current()} UNION ALL "
        f"SELECT NULL, attempts, {IS_RUNNING}, NULL, NULL, NULL "
        f"FROM {db.TASKS} WHERE id = %s AND failed_at IS NULL",
        [task_id, task_id],
    )
    # Inside the transaction that records a task's ending, both its row and its outcome are found.
    # Then the outcome counts.
    for state, attempts, running, result, exception, completed_id in sorted(rows, key=_in_queue):
        return State(task_id, attempts, state, bool(running), result, exception, completed_id)
    return None


def _in_queue(row: tuple[Any, ...]) -> bool:
    return row[0] is None


def outcome_of(task_id: int) -> Outcome | None:
    """A task's outcome; None if it has none."""
    rows = Outcome.objects.using(db.alias()).filter(pk=task_id)
    found: Outcome | None = rows.extra(where=[db.is_current()]).first()  # noqa: S610  (constant)
    return found


def value(task_id: int, stored: str | None) -> Any:
    """What a task has returned, from the text that its outcome keeps.

    Raises:
        UnreadableResult: the text cannot be read.
    """
    if stored is None:
        return None
    with reading(task_id, "its result"):
        return codec.loads(stored)


@contextmanager
def reading(task_id: int, what: str) -> Iterator[None]:
    """Within this context, whatever cannot be read is an `UnreadableResult`.

    Somebody may have written into the tables by hand what Python cannot hold. SQLite stores
    anything in any column, and PostgreSQL dates beyond Python's calendar.
    """
    try:
        yield
    except (ValueError, TypeError, AttributeError, ArithmeticError, DataError) as error:
        raise UnreadableResult(
            f"Of task {task_id}, {what} cannot be read: {error}. Look at its row in the table "
            f"{db.OUTCOMES}. It was changed by hand, or written by a newer version of bgtasks."
        ) from error


def ended_of(ids: Sequence[int]) -> list[int]:
    """The ids of those tasks that have an outcome."""
    sql = (
        f"SELECT task_id FROM {db.OUTCOMES} WHERE {db.is_member('task_id', 'bigint')} "
        f"AND {db.is_current()}"
    )
    return [task_id for (task_id,) in db.fetch(sql, [db.members(ids)])]


def story(completed_id: int | None) -> str:
    """The text that is kept of a failure: a traceback as a rule; empty if there is none."""
    rows = CompletedTask.objects.using(db.alias()).filter(pk=completed_id)
    return _text(rows.values_list("last_error", flat=True).first())


def trouble(task_id: int) -> str:
    """What a waiting task's last attempt raised, in one line; empty if there is nothing."""
    rows = Task.objects.using(db.alias()).filter(pk=task_id)
    return gist(_text(rows.values_list("last_error", flat=True).first()))


def _text(found: Any) -> str:
    """A text from a column of text, in which SQLite may also hold a number or bytes."""
    return found if isinstance(found, str) else str(found or "")


def revoke(task_id: int, terminate: bool) -> bool:
    """Cancel a task: its outcome is recorded here and now.

    Args:
        terminate: cancel it also if a worker has it. The worker loses its claim, so that nothing
            is recorded of the run, and is asked to end the run.

    Returns:
        Whether the task was cancelled. It was not if it has ended, or if a worker has it and
        ``terminate`` is false.
    """
    with db.write_transaction():
        row = Task.objects.using(db.alias()).filter(pk=task_id, failed_at=None).first()
        if row is None:
            return False
        progress.keep(row.pk, REVOKER)
        waits = is_published(row.locked_by)
        taken = claims.take_over(row, REVOKER, row.locked_by if terminate or waits else None)
        if taken is None:  # what `keep` has written must go
            transaction.set_rollback(True, using=db.alias())
            return False
        if taken and not waits:
            _ask_to_end(task_id, taken)
        return record_alone(Ending(row, cancelled=True, error="Cancelled: it was revoked"))


def _ask_to_end(task_id: int, claim: str) -> None:
    worker = claim.partition(".")[0][:32]
    Revocation.objects.using(db.alias()).update_or_create(
        pk=task_id, defaults={"worker": worker, "requested_at": timezone.now()}
    )


def forget(task_id: int) -> bool:
    """Delete all that is kept of a task that has ended; returns whether it had an outcome."""
    completed = Outcome.objects.using(db.alias()).filter(pk=task_id)
    batch: dict[int, Any] = dict(completed.values_list("task_id", "completed_id"))
    if batch:
        pruning.forget(batch)
    return bool(batch)


def revoked(worker: str) -> list[int]:
    """The ids of the tasks whose runs a worker is asked to end. Each id is returned once.

    A revoked task has no row any more. If there is one, the task table was emptied and its ids
    began anew: it is another task's.
    """
    using = db.alias()
    rows = Revocation.objects.using(using).filter(worker=worker)
    reused = Exists(Task.objects.using(using).filter(pk=OuterRef("pk")))
    found = dict(rows.annotate(reused=reused).values_list("pk", "reused"))
    if found:
        rows.filter(pk__in=list(found)).delete()
    return [task_id for task_id, is_reused in found.items() if not is_reused]
