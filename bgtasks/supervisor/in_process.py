"""A worker of one process, for where children cannot be forked, or should not be."""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from django.db import DatabaseError, InterfaceError, connections

from bgtasks.clock import elapsed
from bgtasks.exceptions import LeaseLost
from bgtasks.logs import get_logger
from bgtasks.queue import patience, rescue
from bgtasks.queue.claims import Claimant
from bgtasks.running import copies
from bgtasks.supervisor import announcing, status
from bgtasks.supervisor.lease import Lease
from bgtasks.supervisor.one_by_one import cannot_share
from bgtasks.supervisor.revocations import CHECK_EVERY, Revocations
from bgtasks.worker.lane import slots_for
from bgtasks.worker.options import Options
from bgtasks.worker.shared_state import Marks, running
from bgtasks.worker.trouble import Trouble
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.worker import Worker

logger = get_logger(__name__)


def cannot_fork() -> str:
    """Why children cannot be forked here; an empty text if they can."""
    if not hasattr(os, "fork"):
        return "this system has no fork"
    if threading.current_thread() is not threading.main_thread():
        return "this is not the main thread"
    return cannot_share()


class Runnable(Protocol):
    """What a worker without children runs; see `bgtasks.worker.worker.Worker`."""

    def run(self) -> object: ...
    def stop(self, *_: object) -> None: ...
    def poke(self) -> None: ...
    def close(self) -> None: ...

    def troubles(self) -> Sequence[Trouble]:
        """What keeps it from its work; another thread asks."""


class InProcess:
    """A worker without children. A thread of the same process renews its lease.

    So a task that holds the interpreter's lock for longer than the lease loses its row.

    Args:
        make: makes what it runs, if that is no `Worker`, from the worker's name.

    Attributes:
        lost: whether it has ended because others have declared it dead.
    """

    def __init__(self, options: Options, make: Callable[[str], Runnable] | None = None) -> None:
        self._options = options
        self._make = make or self._make_worker
        self._advice = "" if make else " Start it again."
        self._marks = Marks(slots_for(options))
        itself = status.Itself(os.getpid(), self._marks, elapsed())
        self._lease = Lease(options, lambda: status.of(self._stopping, [itself], self._troubles()))
        self._revocations = Revocations()
        self._worker: Runnable | None = None
        self.lost = False
        self._stopping = self._has_said = False
        self._wakeup: WakeUp | None = None  # while it waits for the database
        self._kept = threading.Event()
        self._ended = threading.Event()

    def _troubles(self) -> Sequence[Trouble]:
        return self._worker.troubles() if self._worker else ()

    def _make_worker(self, name: str) -> Worker:
        return Worker(Claimant(name, 1), self._marks, self._options)

    def stop(self, *_: object) -> None:
        """Start no more rows, and end. Safe in a signal handler, and before `run`."""
        self._stopping = True
        self._lease.tell()
        if self._wakeup:
            self._wakeup.poke()
        if self._worker:
            self._worker.stop()

    def _poke(self) -> None:
        if self._worker:
            self._worker.poke()

    def _acquire(self) -> bool:
        """Register as a worker, and wait for the database if it does not answer.

        Returns:
            False if it was stopped, or the duration is over, before the database answered.
        """
        ends_at = elapsed() + self._options.duration if self._options.duration else math.inf
        wakeup = self._wakeup = WakeUp()
        try:
            return self._lease.acquire_patiently(
                wakeup.wait, lambda: self._stopping or elapsed() >= ends_at
            )
        finally:
            wakeup.close()

    def run(self) -> None:
        """Run rows until it is stopped, the queue is drained, or the duration is over."""
        if not self._acquire():
            return
        # Django's reloader exits the process while tasks run. Their rows are handed back then.
        atexit.register(self._give_back)
        self._lease.tell()
        worker = self._worker = self._make(self._lease.name)
        if self._stopping:
            worker.stop()
        beats = threading.Thread(target=self._beat, name="bgtasks-lease", daemon=True)
        beats.start()
        # Before the first row runs, the lease was kept once: it has enqueued what is due by a cron
        # line, and taken back the rows of dead workers.
        self._kept.wait()
        announcing.ready(self._lease.name, self._options)
        timer = threading.Timer(self._options.duration, worker.stop)
        timer.daemon = True
        if self._options.duration:
            timer.start()
        try:
            with copies.abandoning(self._lease.abandon, self._keep_out):
                worker.run()
        finally:
            timer.cancel()
            self._ended.set()
            beats.join()
            worker.close()
            atexit.unregister(self._give_back)
            self._give_back()
        announcing.stopped(self._lease.name)

    def _keep_out(self) -> None:
        """In a copy of this process that a task has forked: hand back no rows at its end."""
        atexit.unregister(self._give_back)

    def _beat(self) -> None:
        try:
            with patience.limited(0.5):
                while not self._ended.wait(self._keep()):
                    self._revoke()
                    self._say_what_still_runs()
        except LeaseLost as error:
            logger.error("%s%s", error, self._advice)
            self.lost = True
            self.stop()
        finally:
            connections.close_all()

    def _say_what_still_runs(self) -> None:
        """Log, once, that this worker is stopping. The handler of the signal must not log."""
        if self._stopping and not self._has_said:
            self._has_said = True
            announcing.stopping(self._lease.name, running(self._marks), None, "")

    def _keep(self) -> float:
        try:
            return min(self._lease.keep(), CHECK_EVERY)
        finally:
            if self._lease.take_rows_to_run():
                self._poke()
            self._kept.set()

    def _revoke(self) -> None:
        """Cancel coroutines that were revoked. A plain function cannot be ended here."""
        try:
            if self._revocations.heed(self._lease.name, [self._marks]):
                self._poke()
        except (DatabaseError, InterfaceError):  # `Lease.keep` will notice that and log it
            connections.close_all()
        # The heartbeats have to go on, for without them other workers would take the rows.
        except Exception:
            logger.exception("The worker goes on after an error.")

    def _give_back(self) -> None:
        story = f"process {os.getpid()} ended or reloaded"
        # The lease is released first, because a thread that still runs claims nothing without it.
        self._lease.release()
        rescue.rescue(f"{self._lease.name}.", story, begun=self._marks.begun(), stopped=True)
