"""What a task finds and leaves: connections fit for use, no transaction, no active language."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone, translation

from bgtasks.queue.database import in_memory

logger = logging.getLogger(__name__)

# A connection that stood idle this long may have lost its server: it is tried before use.
IDLE = 1.0
# Seconds between looks at the connection that all coroutines share.
SHARED_EVERY = 0.1
# libpq's states of a transaction: active, open, failed. Not idle (0), and not unknown (4), which
# is what a connection says that is lost.
OPEN = {1, 2, 3}


class Surroundings:
    """What the tasks of one thread start in: fresh context variables, usable connections.

    Made in that thread. A task inherits the context that it was made in, but for an active
    translation or time zone.

    Args:
        ours: nobody else uses this thread's connections, so that no transaction is open between
            tasks that should be. Else those that were open before a task are left alone.
    """

    def __init__(self, ours: bool = False) -> None:
        self._ours = ours
        self._context = contextvars.copy_context()
        self._context.run(_deactivate)
        self._checked_at = -IDLE
        self._busy: list[BaseDatabaseWrapper] = []

    def context(self) -> contextvars.Context:
        """A context of its own: what a task sets there does not reach the next one."""
        return self._context.copy()

    def enter(self) -> None:
        """See to it that a task does not start on a connection that its server has left."""
        now = time.monotonic()
        if now - self._checked_at < IDLE:
            return  # `leave` has just looked
        self._busy = []
        for connection in _open():
            used = connection.__dict__.get("_bgtasks_used_at", now)
            if _in_transaction(connection):
                self._leave_or_discard(connection)
            elif _spent(connection, now) or (now - used > IDLE and not connection.is_usable()):
                connection.close()

    def _leave_or_discard(self, connection: BaseDatabaseWrapper) -> None:
        if not self._ours:  # as within a test
            self._busy.append(connection)
            return
        logger.error(
            "A transaction was left open on %s between tasks, by a receiver of their signals as a "
            "rule. It was rolled back.",
            connection.alias,
        )
        _discard(connection)

    def distrust(self) -> None:
        """Others than a task have been here: look before the next one."""
        self._checked_at = -IDLE

    def leave(self) -> list[str]:
        """Roll back transactions that were left open; returns the names of their databases."""
        now = self._checked_at = time.monotonic()
        leaks = []
        for connection in _open():
            connection.__dict__["_bgtasks_used_at"] = now
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
    return [c for c in connections.all(initialized_only=True) if c.connection is not None]


def _spent(connection: BaseDatabaseWrapper, now: float) -> bool:
    """Whether a connection is broken, or too old by CONN_MAX_AGE.

    That one's default, 0, is meant for requests and would cost every task a connection.
    """
    if connection.errors_occurred:
        return True
    limited = connection.settings_dict["CONN_MAX_AGE"] and connection.close_at is not None
    return bool(limited and now >= connection.close_at)  # type: ignore[operator]


class _Shared:
    """When the shared connection was last looked at, and who is doing it now."""

    at = 0.0
    task: asyncio.Task[Any] | None = None


def tidy_shared() -> None:
    """Have the thread that runs the ORM for coroutines look after its connections.

    It does one thing after another, so that whatever the caller asks of the ORM comes after this;
    nobody waits for it.
    """
    now = time.monotonic()
    if now - _Shared.at >= SHARED_EVERY:
        _Shared.at = now
        _Shared.task = asyncio.get_running_loop().create_task(sync_to_async(_tidy)())


def _tidy() -> None:
    here = Surroundings()
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
        except sqlite3.ProgrammingError:  # it is closed
            return False
    if connection.vendor == "postgresql":
        return connection.connection.info.transaction_status in OPEN
    return False


def _discard(connection: BaseDatabaseWrapper) -> None:
    """Close a connection in whatever state it is, and forget the state."""
    connection.in_atomic_block = False
    if in_memory(connection):  # lives by its connection
        connection.rollback()
        connection.set_autocommit(True)
        connection.savepoint_ids, connection.atomic_blocks = [], []
        return
    try:
        connection.close()
    except Exception:
        logger.exception("A connection with a leaked transaction would not close.")
    # The next use connects anew: no atomic blocks, no savepoints. It must be this same wrapper, for
    # a test runner closes those that it began with, and no others.
    connection.connection = None
