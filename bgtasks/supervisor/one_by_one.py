"""Rows run one after another by this very thread, where no other thread can see them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from background_task import tasks as upstream
from django.core import mail
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
)

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue import workers
from bgtasks.queue.database import connection, in_memory
from bgtasks.supervisor.cron import Cron
from bgtasks.worker.options import Options
from bgtasks.worker.wakeup import WakeUp

logger = logging.getLogger(__name__)


def cannot_share() -> str:
    """Why only this very thread can see the rows; an empty text if others can too."""
    if custom_runner():
        return "the project has a runner of its own"
    database = connection()
    if in_memory(database):
        return "the database is in this process's memory"
    if database.in_atomic_block:
        return "a transaction is open"
    if hasattr(mail, "outbox"):  # set_up_test_environment() made it
        return "this is a test: what tasks change in memory is to be seen"
    return ""


def custom_runner() -> bool:
    """Whether the project runs rows by a runner of its own."""
    return type(upstream.tasks._runner) is not upstream.DBTaskRunner


class OneByOne:
    """Claims, runs and records one row after another, in this thread."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stopping = False
        self._wakeup = WakeUp()
        # Not in a test or an open transaction, which have what is in them done and no more.
        self._cron = Cron() if custom_runner() else None

    def stop(self, *_: object) -> None:
        """Start nothing more. Safe in a signal handler, where an Event would not be."""
        self._stopping = True
        self._wakeup.poke()

    def run(self) -> None:
        try:
            if custom_runner() or not cannot_share():
                self._run_renewing()
            else:
                self._run()
        finally:
            self._wakeup.close()

    def _run_renewing(self) -> None:
        """Nobody else sees to these locks, which are dead to others after MAX_RUN_TIME."""
        ended = threading.Event()
        locks = threading.Thread(
            target=self._renew_locks, args=[ended], name="bgtasks-locks", daemon=True
        )
        locks.start()
        try:
            self._run()
        finally:
            ended.set()
            locks.join()

    def _run(self) -> None:
        until = elapsed() + self._options.duration if self._options.duration else None
        while not self._stopping and (until is None or elapsed() < until):
            found = self._run_next(self._options.queues or [None])
            if found:
                continue
            if self._options.drain and found is False:
                return
            if not connection().in_atomic_block:
                close_old_connections()
            rest = self._options.sleep if until is None else until - elapsed()
            due = self._cron.due_in() if self._cron else rest
            self._wakeup.wait(max(0.0, min(self._options.sleep, rest, due)))

    def _run_next(self, queues: Sequence[str | None]) -> bool | None:
        """Run one row; returns whether there was one, None if the database does not say."""
        try:
            if self._cron and self._cron.due_in() <= 0:
                self._cron.run()
            return any(upstream.tasks.run_next_task(queue) for queue in queues)
        except (OperationalError, InterfaceError) as error:
            if connection().in_atomic_block:
                raise
            logger.warning("The database does not answer as it should; trying again: %s", error)
            connections.close_all()
            return None

    def _renew_locks(self, ended: threading.Event) -> None:
        name = upstream.tasks._runner.worker_name
        while not ended.wait(conf.upstream_lock_time() / 4):
            try:
                workers.renew_locks(name)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Locks are not renewed: %s", error)
            connections.close_all()
