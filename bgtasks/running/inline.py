"""Running a row in this very thread, where a transaction may be open around it.

What tests do, and who asks for a call to be run here and now. A worker has no such transaction.
"""

from __future__ import annotations

import logging
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
from bgtasks.queue import finish, progress
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.running import executor
from bgtasks.running.isolation import Surroundings
from bgtasks.running.run import Runs

logger = logging.getLogger(__name__)


def run(claimed: ClaimedRow, hooks_wait: bool = False) -> BaseException | None:
    """Run a row that we hold and record its ending; returns what it raised, if it has failed.

    Args:
        hooks_wait: what it wants done on commit waits for the transaction around it. Else that is
            done when it has ended, as if there were none.
    """
    run = Runs(progress.Unattended(), lonely=True).of(claimed)
    with _failures_of(claimed.row) as failures:
        ending = executor.run(run, _Around(claimed.row, hooks_wait))
    progress.write([run.task])
    finish.record_alone(ending)
    return failures[0] if failures else None


@contextmanager
def _failures_of(row: Task) -> Iterator[list[BaseException]]:
    """Collects what a row raises, unless that is a word to the worker: Retry, Snooze, Cancel."""
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
    """A test's transaction, as a task found it.

    Attributes:
        savepoint: made before the task.
        depth: how many ``atomic`` blocks were open.
        savepoints: how many of those have a savepoint, or stand for one.
        hooks: how many functions waited for the commit.
    """

    database: BaseDatabaseWrapper
    savepoint: Any
    depth: int
    savepoints: int
    hooks: int

    def is_left_open(self) -> bool:
        """Whether the task left an ``atomic`` block open; it is no more then."""
        left = len(self.database.atomic_blocks) > self.depth
        del self.database.atomic_blocks[self.depth :]
        del self.database.savepoint_ids[self.savepoints :]
        return left

    def keep(self) -> bool:
        """Keep what the task wrote; returns whether that can be done."""
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
        """Do what the task wanted done on commit: its own transactions would have ended by now."""
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
    """What a task starts in, where the transaction of a test or a caller may be open around it.

    In a worker there is none: a statement that fails harms nothing else there. Here it would end
    that transaction, and with it the test.
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
        """Roll back what a task left open where nothing was before it.

        A worker throws such a connection away; Django's test runner still has to close this one.
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
