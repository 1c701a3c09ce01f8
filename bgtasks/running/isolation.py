"""What a task finds and leaves: connections fit for use, no transaction, no active language."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone, translation

from bgtasks.logs import get_logger
from bgtasks.queue.database import in_memory

logger = get_logger(__name__)

# A connection that was idle for so many seconds may have lost its server, and is tried before use.
IDLE = 1.0
# Seconds between two checks of the connections that all coroutines share.
SHARED_EVERY = 0.1
# libpq's states of a connection with an open transaction: PQTRANS_ACTIVE, _INTRANS and _INERROR.
# The others are PQTRANS_IDLE (0) and PQTRANS_UNKNOWN (4), which is that of a lost connection.
IN_ERROR = 3
OPEN = {1, 2, IN_ERROR}


class Surroundings:
    """What the tasks of one thread start in: fresh context variables, usable connections.

    It must be made in that thread. Tasks inherit the context in which it was made, but no active
    translation or time zone.

    Args:
        ours: whether nobody else uses this thread's connections. Then a transaction that is open
            before a task is a mistake, and is rolled back. Else it is left alone.
    """

    def __init__(self, ours: bool = False) -> None:
        self._ours = ours
        self._context = contextvars.copy_context()
        self._context.run(_deactivate)
        self._checked_at = -IDLE
        self._busy: list[BaseDatabaseWrapper] = []

    def context(self) -> contextvars.Context:
        """A new context for one task: what the task sets in it does not reach the next one."""
        return self._context.copy()

    def enter(self) -> None:
        """Make the connections fit for a task: close the broken, the old and the lost ones."""
        now = time.monotonic()
        if now - self._checked_at < IDLE:
            return  # `leave` has checked them just now
        self._busy = []
        for connection in _open():
            used = connection.__dict__.get("_bgtasks_used_at", now)
            if _in_transaction(connection):
                self._leave_or_discard(connection)
            elif _spent(connection, now) or (now - used > IDLE and not connection.is_usable()):
                connection.close()

    def _leave_or_discard(self, connection: BaseDatabaseWrapper) -> None:
        if not self._ours:  # for example inside a test
            self._busy.append(connection)
            return
        logger.error(
            "A transaction was left open on %s between tasks, by a receiver of their signals as a "
            "rule. It was rolled back.",
            connection.alias,
        )
        _discard(connection)

    def distrust(self) -> None:
        """Have `enter` check the connections, for other code than a task has used them."""
        self._checked_at = -IDLE

    def leave(self) -> list[str]:
        """Roll back transactions that were left open; returns the names of their databases."""
        now = self._checked_at = time.monotonic()
        leaks = []
        for connection in _open():
            connection.__dict__["_bgtasks_used_at"] = now
            if self._ours:  # elsewhere, a test may count the statements
                connection.queries_log.clear()
            if connection in self._busy:
                continue
            if _in_transaction(connection):
                leaks.append(connection.alias)
                _discard(connection)
            elif _spent(connection, now):
                connection.close()
        return leaks


def _deactivate() -> None:
    translation.deactivate()
    timezone.deactivate()


def _open() -> list[BaseDatabaseWrapper]:
    """The connections of this thread that are open.

    This is done after every run, and `connections.all(initialized_only=True)` takes twice as long:
    it looks for each of them two times.
    """
    made = connections._connections  # type: ignore[attr-defined]
    found = (getattr(made, alias, None) for alias in connections)
    return [each for each in found if each is not None and each.connection is not None]


def _spent(connection: BaseDatabaseWrapper, now: float) -> bool:
    """Whether a connection is broken, or older than CONN_MAX_AGE.

    A CONN_MAX_AGE of 0, the default, is ignored. It is meant for requests; here every task would
    open a new connection.
    """
    if connection.errors_occurred:
        return True
    limited = connection.settings_dict["CONN_MAX_AGE"] and connection.close_at is not None
    return bool(limited and now >= connection.close_at)  # type: ignore[operator]


class _Shared:
    """The last check of the connections that all coroutines share.

    Attributes:
        at: when it was made, by ``time.monotonic()``.
        task: what makes it. The reference keeps it from being collected as garbage.
    """

    at = 0.0
    task: asyncio.Task[Any] | None = None


def tidy_shared() -> None:
    """Have the thread that runs the ORM for coroutines check its connections.

    Nobody waits for that. The thread does one thing after another, so that whatever the caller
    asks of the ORM next is done after it.
    """
    now = time.monotonic()
    if now - _Shared.at >= SHARED_EVERY:
        _Shared.at = now
        _Shared.task = asyncio.get_running_loop().create_task(sync_to_async(_tidy)())


def _tidy() -> None:
    here = Surroundings(ours=True)
    if leaks := here.leave():
        logger.error(
            "A coroutine left a transaction open on %s. It was rolled back. Commit it, or use "
            "`with transaction.atomic():`, within one sync_to_async().",
            ", ".join(leaks),
        )
    here.enter()


def _in_transaction(connection: BaseDatabaseWrapper) -> bool:
    if connection.in_atomic_block or not connection.autocommit:
        return True
    if connection.vendor == "sqlite":
        try:
            return bool(connection.connection.in_transaction)
        except sqlite3.ProgrammingError:  # the connection is closed
            return False
    if connection.vendor == "postgresql":
        return connection.connection.info.transaction_status in OPEN
    return False


def cannot_commit(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction that was begun on this connection cannot be committed any more.

    On PostgreSQL that is so after a statement in it has failed. SQLite ends a transaction itself
    when its disk is full, for example. A COMMIT that somebody has executed is not seen on
    PostgreSQL, whose driver begins a new transaction by itself.
    """
    if connection.vendor == "sqlite":
        return not connection.connection.in_transaction
    return bool(connection.connection.info.transaction_status == IN_ERROR)


def _discard(connection: BaseDatabaseWrapper) -> None:
    """Close a connection whatever its state, and have Django forget that state.

    A database in memory is only rolled back, for it would be lost with its connection.
    """
    connection.in_atomic_block = False
    if in_memory(connection):
        connection.rollback()
        connection.set_autocommit(True)
        connection.savepoint_ids, connection.atomic_blocks = [], []
        return
    try:
        connection.close()
    except Exception:
        logger.exception("A connection with a leaked transaction would not close.")
    # The next use connects anew, without atomic blocks and savepoints. Django's wrapper must stay
    # the same one, because a test runner closes the wrappers that it began with, and no others.
    connection.connection = None
