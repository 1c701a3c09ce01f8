"""Runs rows one after another in the calling thread, for where no other thread can see them."""

from __future__ import annotations

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
from bgtasks.logs import get_logger
from bgtasks.queue import workers
from bgtasks.queue.database import connection, in_memory
from bgtasks.queue.database_file import DatabaseFile, File
from bgtasks.running import without_worker
from bgtasks.supervisor.cron import Cron
from bgtasks.worker.options import Options
from bgtasks.worker.wakeup import WakeUp

logger = get_logger(__name__)


def cannot_share() -> str:
    """Why rows can be run by the calling thread only; an empty text if others can run them too."""
    if custom_runner():
        return "the project has a runner of its own"
    database = connection()
    if in_memory(database):
        return "the database is in this process's memory"
    if database.in_atomic_block:
        return "a transaction is open"
    if hasattr(mail, "outbox"):  # Django's setup_test_environment() has made it
        return "this is a test, which should see what tasks change in memory"
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
        self._file = DatabaseFile()
        self._token = upstream.tasks._runner.worker_name
        # In a test or inside a transaction only the rows are run that are there, so no cron lines.
        self._cron = Cron() if custom_runner() else None

    def stop(self, *_: object) -> None:
        """Start no more rows. Safe in a signal handler, where `threading.Event.set` is not."""
        self._stopping = True
        self._wakeup.poke()

    def run(self) -> None:
        """Run rows until it is stopped, the queue is drained, or the duration is over."""
        try:
            if custom_runner() or not cannot_share():
                self._run_renewing()
            else:
                self._run()
        finally:
            self._wakeup.close()

    def _run_renewing(self) -> None:
        """Run rows, and renew their locks meanwhile.

        Nothing else renews them here, and other workers take rows whose lock is older than
        `MAX_RUN_TIME`.
        """
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
            found = self._run_next()
            if found:
                continue
            if self._options.drain and found is False:
                return
            if not connection().in_atomic_block:
                close_old_connections()
            rest = self._options.sleep if until is None else until - elapsed()
            due = self._cron.due_in() if self._cron else rest
            self._wakeup.wait(max(0.0, min(self._options.sleep, rest, due)))

    def _run_next(self) -> bool | None:
        """Run one row. Returns whether there was one; None if the database does not answer."""
        try:
            if not connection().in_atomic_block:
                self._check_file()
            if self._cron and self._cron.due_in() <= 0:
                self._cron.run()
            if custom_runner():
                queues: Sequence[str | None] = self._options.queues or [None]
                return any(upstream.tasks.run_next_task(queue) for queue in queues)
            return without_worker.run_next(self._token, self._options.queues)
        except (OperationalError, InterfaceError) as error:
            if connection().in_atomic_block:
                raise
            logger.warning("The database does not answer as it should; trying again: %s", error)
            connections.close_all()
            return None

    def _check_file(self) -> None:
        """Open the file of an SQLite database anew if it is another one than is open.

        Raises:
            OperationalError: there is none. To connect would make an empty one.
        """
        state = self._file.state()
        if state is File.SAME:
            return
        text = f"The database file {self._file.path} {state.value}."
        if state is File.GONE:
            raise OperationalError(text)
        logger.warning("%s It is opened anew.", text)
        connections.close_all()
        self._file.note()

    def _renew_locks(self, ended: threading.Event) -> None:
        while not ended.wait(conf.upstream_lock_time() / 4):
            try:
                workers.renew_locks(self._token)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Locks are not renewed: %s", error)
            connections.close_all()
