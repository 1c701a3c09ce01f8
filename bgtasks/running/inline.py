"""Running a row in this very thread, where a transaction may be open around it.

That is how tests run tasks, and calls that are to run at once. In a worker there is no such
transaction.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from background_task import signals
from background_task.models import Task
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks.exceptions import Retry
from bgtasks.logs import get_logger
from bgtasks.queue import finish, progress
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.running import executor
from bgtasks.running.isolation import Surroundings
from bgtasks.running.run import Runs

logger = get_logger(__name__)


def run(claimed: ClaimedRow, hooks_wait: bool = False) -> BaseException | None:
    """Run a row that we hold and record its ending.

    Args:
        hooks_wait: whether the functions that the task passes to ``on_commit`` wait until the
            transaction around it commits. Else they are called when the task has ended, as if
            there were no transaction around it.

    Returns:
        What the task raised; None if it has not failed.
    """
    run = Runs(progress.Unattended(), lonely=True).of(claimed)
    with _failures_of(claimed.row) as failures:
        ending = executor.run(run, _Around(claimed.row, hooks_wait))
    progress.write([run.task])
    finish.record_alone(ending)
    return failures[0] if failures else None


@contextmanager
def _failures_of(row: Task) -> Iterator[list[BaseException]]:
    """Collect what a row raises, unless that is a Snooze, a Cancel, or a Retry that is granted.

    Of a Retry that is not granted, the exception that it was raised from is collected, if any.
    """
    found: list[BaseException] = []

    def note(task: Any, **_: Any) -> None:
        error = sys.exception()
        if task is row and error is not None:
            cause = error.__cause__ if isinstance(error, Retry) else None
            found.append(cause or error)

    signals.task_error.connect(note, weak=False)
    try:
        yield found
    finally:
        signals.task_error.disconnect(note)


@dataclass
class _Transaction:
    """A transaction of a test, or of a caller, as it was when a task began inside it.

    Attributes:
        database: the connection.
        savepoint: the savepoint that was made before the task.
        depth: how many ``atomic`` blocks were open.
        savepoints: how many entries Django's list of the connection's savepoints had.
        hooks: how many ``on_commit`` functions waited for the commit.
    """

    database: BaseDatabaseWrapper
    savepoint: Any
    depth: int
    savepoints: int
    hooks: int

    def is_left_open(self) -> bool:
        """Whether the task left an ``atomic`` block open. Such a block is forgotten here."""
        left = len(self.database.atomic_blocks) > self.depth
        del self.database.atomic_blocks[self.depth :]
        del self.database.savepoint_ids[self.savepoints :]
        return left

    def keep(self) -> bool:
        """Release the savepoint, which keeps what the task wrote; returns whether that was done."""
        if self.database.needs_rollback:
            return False
        try:
            self.database.savepoint_commit(self.savepoint)
        except DatabaseError:
            return False
        return True

    def undo(self) -> None:
        del self.database.run_on_commit[self.hooks :]
        self.database.needs_rollback = False
        self.database.savepoint_rollback(self.savepoint)

    def commit_hooks(self) -> None:
        """Call the ``on_commit`` functions of the task, as if its transactions had committed."""
        while hooks := self.database.run_on_commit[self.hooks :]:
            del self.database.run_on_commit[self.hooks :]
            for _, hook, robust in hooks:  # type: ignore[misc]  # the stubs know of two
                try:
                    hook()
                except Exception:
                    if not robust:
                        raise
                    logger.exception("A function that was to be called on commit raised.")


class _Around(Surroundings):
    """The surroundings of a task around which the transaction of a test or a caller may be open.

    A statement of the task that fails would break that transaction, and with it the test. So the
    task has a savepoint. In a worker there is no such transaction to break.
    """

    def __init__(self, row: Task, hooks_wait: bool) -> None:
        super().__init__()
        self._row = row
        self._hooks_wait = hooks_wait
        self._around: list[_Transaction] = []

    def enter(self) -> None:
        super().enter()
        self._around = [
            _Transaction(
                database,
                database.savepoint(),
                len(database.atomic_blocks),
                len(database.savepoint_ids),
                len(database.run_on_commit),
            )
            for database in connections.all(initialized_only=True)
            if database.in_atomic_block
        ]

    def leave(self) -> list[str]:
        leaks = [*self._leaked(), *super().leave()]
        for around in self._around:
            if around.is_left_open():
                around.undo()
                leaks.append(around.database.alias)
            elif around.keep():
                if not self._hooks_wait:
                    around.commit_hooks()
            else:
                around.undo()
                self._complain()
        return leaks

    def _leaked(self) -> Iterator[str]:
        """Roll back the transactions that the task left open, and yield their databases' names.

        These are transactions on connections that had none before the task. A worker closes such
        a connection. Here it stays open, for Django's test runner will close it itself.
        """
        busy = [around.database for around in self._around]
        for database in connections.all(initialized_only=True):
            if database.in_atomic_block and database not in busy:
                database.in_atomic_block = False
                database.rollback()
                database.set_autocommit(True)
                database.savepoint_ids, database.atomic_blocks = [], []
                yield database.alias

    def _complain(self) -> None:
        if sys.exception() is None:
            warnings.warn(
                f"Task {self._row.task_name} caught an error of the database. Inside a test's "
                "transaction that takes with it all that the task wrote. Write `with "
                "transaction.atomic():` around the statement that may fail, or test this with a "
                "TransactionTestCase.",
                RuntimeWarning,
                stacklevel=2,
            )
