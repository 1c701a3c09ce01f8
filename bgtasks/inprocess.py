"""Running tasks in the calling process, where forking children cannot work or is not wanted."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
from collections.abc import Sequence

from background_task import tasks as stock
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
from bgtasks.cronjobs import Cron
from bgtasks.exceptions import LeaseLost
from bgtasks.lease import Lease
from bgtasks.marks import Marks
from bgtasks.options import Options
from bgtasks.queue import rescue, workers
from bgtasks.queue.claims import Claimant
from bgtasks.queue.database import connection, in_memory
from bgtasks.revocations import EVERY, Revocations
from bgtasks.wakeup import WakeUp
from bgtasks.worker import Worker
from bgtasks.workload import slots_for

logger = logging.getLogger(__name__)


def cannot_fork() -> str:
    """Why children cannot be forked here; an empty text if they can."""
    if not hasattr(os, "fork"):
        return "this system has no fork"
    if threading.current_thread() is not threading.main_thread():
        return "this is not the main thread"
    return cannot_share()


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
    return type(stock.tasks._runner) is not stock.DBTaskRunner


class OneByOne:
    """Claims, runs and records one row after another, in this thread."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stopping = False
        self._wakeup = WakeUp()
        # Not in a test or an open transaction, which have what is in them done and no more.
        self._cron = Cron(enqueued=lambda: None) if custom_runner() else None

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
            return any(stock.tasks.run_next_task(queue) for queue in queues)
        except (OperationalError, InterfaceError) as error:
            if connection().in_atomic_block:
                raise
            logger.warning("The database does not answer as it should; trying on: %s", error)
            connections.close_all()
            return None

    def _renew_locks(self, ended: threading.Event) -> None:
        name = stock.tasks._runner.worker_name
        while not ended.wait(conf.stock_lock_time() / 4):
            try:
                workers.renew_locks(name)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("Locks are not renewed: %s", error)
            connections.close_all()


class InProcess:
    """A worker without children: its lease is renewed by a thread of the same process.

    A task that holds the interpreter for longer than the lease loses its row here.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._marks = Marks(slots_for(options))
        self._lease = Lease(options, rescued=self._poke)
        self._revocations = Revocations()
        self._worker: Worker | None = None
        self._stopping = False
        self._wakeup: WakeUp | None = None  # while it waits for the database
        self._kept = threading.Event()
        self._ended = threading.Event()

    def stop(self, *_: object) -> None:
        """Start nothing more. Safe in a signal handler, and before it runs."""
        self._stopping = True
        if self._wakeup:
            self._wakeup.poke()
        if self._worker:
            self._worker.stop()

    def _poke(self) -> None:
        if self._worker:
            self._worker.poke()

    def _acquire(self) -> bool:
        """Register, waiting for the database if need be. Returns whether to go on."""
        ends_at = elapsed() + self._options.duration if self._options.duration else math.inf
        wakeup = self._wakeup = WakeUp()
        try:
            return self._lease.acquire_patiently(
                wakeup.wait, lambda: self._stopping or elapsed() >= ends_at
            )
        finally:
            wakeup.close()

    def run(self) -> None:
        if not self._acquire():
            return
        # Reloading ends the process in the middle of whatever it does.
        atexit.register(self._give_back)
        worker = self._worker = Worker(Claimant(self._lease.name, 1), self._marks, self._options)
        if self._stopping:
            worker.stop()
        beats = threading.Thread(target=self._beat, name="bgtasks-lease", daemon=True)
        beats.start()
        # Before anything is run: what is due by a cron line, and what a dead worker has left.
        self._kept.wait()
        timer = threading.Timer(self._options.duration, worker.stop)
        timer.daemon = True
        if self._options.duration:
            timer.start()
        try:
            worker.run()
        finally:
            timer.cancel()
            self._ended.set()
            beats.join()
            worker.close()
            atexit.unregister(self._give_back)
            self._give_back()

    def _beat(self) -> None:
        try:
            while not self._ended.wait(self._keep()):
                self._revoke()
        except LeaseLost as error:
            logger.error("%s Start it again.", error)
            self.stop()
        finally:
            connections.close_all()

    def _keep(self) -> float:
        try:
            return min(self._lease.keep(), EVERY)
        finally:
            self._kept.set()

    def _revoke(self) -> None:
        """Cancel coroutines that were called off. A plain function cannot be ended here."""
        try:
            if self._revocations.heed(self._lease.name, [self._marks]):
                self._poke()
        except (DatabaseError, InterfaceError):  # the lease tells of that
            connections.close_all()
        except Exception:  # of a receiver; without heartbeats all tasks would be lost
            logger.exception("The worker goes on after an error.")

    def _give_back(self) -> None:
        story = f"process {os.getpid()} ended or reloaded"
        # First, for without its lease a thread that still runs claims nothing more.
        self._lease.release()
        rescue.rescue(f"{self._lease.name}.", story, begun=self._marks.begun(), stopped=True)
