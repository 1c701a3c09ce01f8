"""Runs a task with ``atomic=True``: what it writes and its outcome are one transaction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from background_task.models import Task
from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks.exceptions import BrokenTransaction, Snooze
from bgtasks.logs import get_logger
from bgtasks.queue import claims, finish, notify
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending
from bgtasks.queue.pacing import Turns
from bgtasks.running import isolation
from bgtasks.running.run import Run

logger = get_logger(__name__)

# A run that does not get SQLite's write lock begins anew after this long.
AGAIN_AFTER = timedelta(seconds=1)
# On SQLite only one transaction can write, so the atomic runs of this process take turns.
_turns = Turns()


def _forget_turns() -> None:
    global _turns
    _turns = Turns()  # in a copy of this process, nobody would end the turn that another thread had


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_turns)


def run(run: Run, body: Callable[[], Ending]) -> Ending:
    """Call the body, and record the success that it returns in the transaction that it ran in.

    Args:
        run: its row is held by our claim; or it is not in the database, and nothing is recorded.
        body: calls the task's function; returns the ending of a success.

    Returns:
        The ending. If our claim did not hold the row any more, everything was rolled back.

    Raises:
        BrokenTransaction: the body left a transaction that cannot be committed, or without its row.
        Snooze: others had SQLite's write lock for too long; the body was not called.
        BaseException: what the body, or the commit, raised; everything was rolled back. If the
            connection was lost during the commit, it is not known whether the transaction was
            committed: it was if the row is no longer in the task table.
    """
    connection = db.connection()
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return _run(run, body, connection)
    patience = db.lock_timeout(connection)
    with _turns.turn(patience) as is_ours:
        if not is_ours:
            raise _later(run.claimed.row, f"other atomic tasks have taken {patience:g} s")
        return _run(run, body, connection)


def _run(run: Run, body: Callable[[], Ending], connection: BaseDatabaseWrapper) -> Ending:
    row, is_outermost = run.claimed.row, not connection.in_atomic_block
    committed: list[bool] = []
    try:
        with _transaction(row, connection):
            if is_outermost:
                # The first function that is called after the commit: those of the task may raise.
                transaction.on_commit(lambda: committed.append(True), using=connection.alias)
            depth = len(connection.atomic_blocks)
            run.begin()
            ending = body()
            _check(row, connection, depth)
            if row.pk is not None and not finish.record_in_transaction(ending):
                raise _ClaimLost
            _check(row, connection, depth)
    except _ClaimLost:
        return _lost(row)
    except BaseException:
        if not committed:
            raise
        _report_hook(row)
    if row.pk is not None:
        ending.recorded = True
    return ending


@contextmanager
def _transaction(row: Task, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """The context of a transaction, which has on SQLite the lock with which others cannot write.

    Raises:
        Snooze: others had it for too long.
    """
    begun = False
    try:
        with transaction.atomic(using=connection.alias):
            db.take_write_lock()
            begun = True
            yield
    except OperationalError as error:
        if begun or not db.is_locked(error):
            raise
        raise _later(row, str(error)) from error


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


def _report_hook(row: Task) -> None:
    """Log what a function raised that was to be called after the commit, and do what it skipped."""
    logger.exception(
        "A function that task %s (id %s) passed to transaction.on_commit() raised. The task has "
        "succeeded, for its transaction was committed before. Functions that it passed after this "
        "one were not called: pass robust=True, or enqueue a task instead.",
        row,
        row.pk,
    )
    notify.notify_workers()  # one of these functions may have been ours, which does this


class _ClaimLost(Exception):
    """Our claim does not hold the row any more: whatever was written is rolled back."""


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
            "own, or called set_rollback(), executed COMMIT or ROLLBACK, or closed the connection. "
            "Put a statement that may fail into `with transaction.atomic():`, and do not end the "
            "transaction."
        )
    else:
        return
    raise BrokenTransaction(
        f"Task {row} (id {row.pk}) is atomic, and its transaction cannot be committed, so it was "
        f"rolled back. {fault}"
    )
