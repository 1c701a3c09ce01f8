"""Runs a task with ``atomic=True``: what it writes and its outcome are one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from background_task.models import Task
from django.db import DatabaseError, InterfaceError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks.exceptions import BrokenTransaction, Snooze
from bgtasks.logs import get_logger
from bgtasks.queue import claims, finish
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending
from bgtasks.queue.pacing import Turns
from bgtasks.running import isolation

logger = get_logger(__name__)

# A run whose transaction could not begin, because of a locked database as a rule, begins anew after
# this long.
AGAIN_AFTER = timedelta(seconds=1)


# On SQLite only one transaction can write, so the atomic runs of this process take turns.
_turns = Turns()


def run(row: Task, body: Callable[[], Ending]) -> Ending:
    """Call the body, and record the success that it returns in the transaction that it ran in.

    Args:
        row: it is held by our claim; or it is not in the database, and nothing is recorded.
        body: calls the task's function; returns the ending of a success.

    Returns:
        The ending. If our claim did not hold the row any more, everything was rolled back.

    Raises:
        BrokenTransaction: the body left a transaction that cannot be committed, or without its row.
        Snooze: the transaction could not begin; the body was not called.
        BaseException: what the body, or the commit, raised; everything was rolled back. If the
            connection was lost during the commit, it is not known whether the transaction was
            committed: it was if the row is no longer in the task table.
    """
    connection = db.connection()
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return _run(row, body, connection)
    patience = db.lock_timeout(connection)
    with _turns.turn(patience) as is_ours:
        if not is_ours:
            raise _later(row, f"other atomic tasks of this process have taken {patience:g} s")
        return _run(row, body, connection)


def _run(row: Task, body: Callable[[], Ending], connection: BaseDatabaseWrapper) -> Ending:
    progress = _Progress()
    try:
        with transaction.atomic(using=connection.alias):
            db.take_write_lock()
            progress.begun = True
            if len(connection.atomic_blocks) == 1:
                # The first function that is called after the commit: those of the task may raise.
                transaction.on_commit(progress.commit, using=connection.alias)
            depth = len(connection.atomic_blocks)
            ending = body()
            _check(row, connection, depth)
            if row.pk is not None:
                _record(ending)
    except _ClaimLost:
        return _lost(row)
    except BaseException as error:
        if progress.committed:
            logger.exception(
                "A function that task %s (id %s) passed to transaction.on_commit() raised. The "
                "task has succeeded, for its transaction was committed before. Functions that it "
                "passed after this one were not called: pass robust=True, or enqueue a task "
                "instead.",
                row,
                row.pk,
            )
            return ending
        if not progress.begun and isinstance(error, DatabaseError | InterfaceError):
            raise _later(row, str(error)) from error
        raise
    return ending


class _Progress:
    """How far a transaction has come."""

    begun = committed = False

    def commit(self) -> None:
        self.committed = True


def _later(row: Task, reason: str) -> Snooze:
    logger.warning(
        "Task %s (id %s) could not begin its transaction: %s. It is tried again in %d s, and no "
        "attempt is counted. If this happens often, make atomic tasks shorter.",
        row,
        row.pk,
        reason,
        AGAIN_AFTER.total_seconds(),
    )
    return Snooze(AGAIN_AFTER)


class _ClaimLost(Exception):
    """Our claim does not hold the row any more: whatever was written is rolled back."""


def _record(ending: Ending) -> None:
    if not finish.record_in_transaction(ending):
        raise _ClaimLost
    ending.recorded = True


def _lost(row: Task) -> Ending:
    """The ending of a run that was rolled back because our claim did not hold its row.

    Raises:
        BrokenTransaction: it was the task itself that had changed its row in its transaction.
    """
    if claims.confirm(row):
        raise BrokenTransaction(
            f"Task {row} (id {row.pk}) is atomic, and its transaction was rolled back. It changed "
            "or deleted its own row in the queue, so that its success could not be recorded."
        )
    logger.warning(
        "Task %s (id %s): this worker lost the row (claim %s) while the task ran, so what the task "
        "wrote was rolled back. Another worker has the row, or it was revoked.",
        row,
        row.pk,
        row.locked_by,
    )
    return Ending(row, recorded=False)


def _check(row: Task, connection: BaseDatabaseWrapper, depth: int) -> None:
    """Raise an error if the transaction is not as the body found it.

    Args:
        depth: how many ``atomic`` blocks were open.

    Raises:
        BrokenTransaction
    """
    if len(connection.atomic_blocks) != depth:
        fault = "It left a block of transaction.atomic() open. Use `with transaction.atomic():`."
    elif connection.needs_rollback or isolation.cannot_commit(connection):
        fault = (
            "It caught an error of the database outside of a `with transaction.atomic():` of its "
            "own, or called set_rollback(), or executed COMMIT or ROLLBACK. Put a statement that "
            "may fail into `with transaction.atomic():`, and do not end the transaction."
        )
    else:
        return
    raise BrokenTransaction(
        f"Task {row} (id {row.pk}) is atomic, and its transaction cannot be committed, so it was "
        f"rolled back. {fault}"
    )
