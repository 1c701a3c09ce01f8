"""The thread that does all work on the queue's tables for a process of a fleet.

It has a connection of its own. So the progress that a task reports in the middle of a transaction
is seen at once, and a fleet that closes the connections of its own threads before and after each
task, as Celery does, does not close this one.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, NoReturn, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import patience, progress
from bgtasks.queue.counters import Counts
from bgtasks.queue.ending import Ending
from bgtasks.queue.pacing import Pace
from bgtasks.tasks.current import CurrentTask
from bgtasks.worker.recorder import Recorder
from bgtasks.worker.shared_state import Marks

logger = get_logger(__name__)
T = TypeVar("T")

# Seconds until endings are recorded again, if the database does not answer.
RETRY = 1.0
# Seconds between two searches for rows of a take-over whose answer was lost.
STRAYS_LATER = 5.0
# Seconds without work after which the connection is closed.
IDLE = 10.0


class Job(NamedTuple):
    """What the thread is to do: call a function, or record an ending."""

    work: Callable[[], Any] | Ending
    done: Future[Any]


class Clerk:
    """Does what the threads that run rows ask for, and lets them wait for it.

    Args:
        worker: the name of the worker, for the counters.
        marks: where the runs of this process are marked as begun.
        release_strays: hands back rows that this process holds and does not run.
    """

    def __init__(self, worker: str, marks: Marks, release_strays: Callable[[], None]) -> None:
        self._release_strays = release_strays
        self._strays_at: list[float] = []
        self._counts = Counts(worker)
        self._recorder = Recorder(marks, Pace(), self._counts)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._reported: list[CurrentTask] = []
        self._thread: threading.Thread | None = None

    # --- for the threads that run rows

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the clerk's thread; returns what it returns, raises what it raises."""
        result: T = self._ask(function).result()
        return result

    def record(self, ending: Ending) -> None:
        """Record the ending of a run. If the database does not answer, this waits for it."""
        self._ask(ending).result()

    def put(self, task: CurrentTask) -> None:
        """Note that a running task has reported its progress."""
        with self._lock:
            self._reported.append(task)
        self._jobs.put(None)

    def look_for_strays(self) -> None:
        """Hand back soon what a take-over has taken whose answer was lost.

        The database may carry it out a while later, so this is done twice.
        """
        self._strays_at = [elapsed(), elapsed() + STRAYS_LATER]
        self._jobs.put(None)

    def flush(self) -> None:
        """Write what was counted."""
        if self._thread:
            self.call(self._counts.flush)

    def _ask(self, work: Callable[[], Any] | Ending) -> Future[Any]:
        job = Job(work, Future())
        self._jobs.put(job)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="bgtasks-clerk", daemon=True
                )
                self._thread.start()
        return job.done

    # --- the thread

    def _serve(self) -> None:
        with patience.limited():
            self._do_jobs()

    def _do_jobs(self) -> NoReturn:
        while True:
            jobs = self._next()
            endings = [job for job in jobs if isinstance(job.work, Ending)]
            for job in jobs:
                if not isinstance(job.work, Ending):
                    _settle(job, job.work)
            if endings:
                self._record(endings)
            elif not jobs and not self._has_more:
                connections.close_all()
            self._write_what_is_due()

    @property
    def _has_more(self) -> bool:
        """Whether there is something to write soon, although nobody waits for it."""
        return bool(self._reported or self._strays_at) or self._counts.waiting

    def _next(self) -> list[Job]:
        """All jobs that wait; none after a while without any."""
        found: list[Job | None] = []
        try:
            found.append(self._jobs.get(timeout=progress.EVERY if self._has_more else IDLE))
            while True:
                found.append(self._jobs.get_nowait())
        except queue.Empty:
            return [job for job in found if job]

    def _record(self, jobs: list[Job]) -> None:
        rest = [job.work for job in jobs if isinstance(job.work, Ending)]
        try:
            while rest:
                try:
                    self._write_progress()  # it may be the last progress of these runs
                    self._recorder.record(rest)
                except (DatabaseError, InterfaceError) as error:
                    logger.warning("%d endings wait for the database: %s", len(rest), error)
                    connections.close_all()
                    time.sleep(RETRY)
        except BaseException as error:  # an error of bgtasks
            for job in jobs:
                job.done.set_exception(error)
        else:
            for job in jobs:
                job.done.set_result(None)

    def _write_what_is_due(self) -> None:
        try:
            self._write_progress()
        except Exception:
            logger.exception("Progress is not written.")
            connections.close_all()
        self._counts.flush_if_due()
        if self._strays_at and self._strays_at[0] <= elapsed():
            try:
                self._release_strays()
                self._strays_at.pop(0)
            except (DatabaseError, InterfaceError):  # the next turn tries again
                connections.close_all()

    def _write_progress(self) -> None:
        with self._lock:
            taken, self._reported = self._reported, []
        if not taken:
            return
        try:
            progress.write(taken)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("The progress of %d tasks is not recorded.", len(taken))


def _settle(job: Job, function: Callable[[], Any]) -> None:
    try:
        job.done.set_result(function())
    except BaseException as error:
        if isinstance(error, DatabaseError | InterfaceError):
            connections.close_all()
        job.done.set_exception(error)
