"""Runs the rows of a workload: from the moment that one is taken until its ending is left."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from contextlib import suppress

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue import claims, receivers
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.running import executor
from bgtasks.running.executor import Cancellation
from bgtasks.running.isolation import Surroundings
from bgtasks.running.run import Runs
from bgtasks.worker.recorder import report_lost
from bgtasks.worker.recording import Recording
from bgtasks.worker.shared_state import Marks
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload

logger = logging.getLogger(__name__)

# A row that waited longer than this in our hands is confirmed before it starts.
STALE = 1.0
# Seconds until the next try to confirm a row while the database is away.
RETRY = 0.1
# Seconds that a thread waits for a row before it closes connections that are old by CONN_MAX_AGE.
IDLE = 10.0
# Seconds between tasks after SIGUSR2, a random number from here to there.
SLOW = (0.5, 1.5)


class Runner:
    """Runs rows in the thread, or in the event loop, that calls it.

    Args:
        marks: where it marks what it has begun.
        lonely: whether this worker runs one task at a time.

    Attributes:
        ending: set when the worker is about to end, so that nothing rests any longer.
    """

    def __init__(
        self, work: Workload, marks: Marks, recording: Recording, wakeup: WakeUp, lonely: bool
    ) -> None:
        self._work = work
        self._marks = marks
        self._recording = recording
        self._wakeup = wakeup
        self._runs = Runs(work.outbox.reports, lonely)
        self.ending = threading.Event()

    # --- plain functions

    def run_plain(self) -> None:
        """Run the rows of plain functions, one after another, until there will be no more."""
        around = Surroundings(ours=True)
        while claimed := self._next():
            ending = None
            try:
                if self._is_ours(claimed):
                    ending = self._run(claimed, around)
            except Unsure:
                self._work.give_back(claimed)
                self.ending.wait(RETRY)
                continue
            except BaseException as error:  # ours, not the task's: that is caught where it runs
                ending = executor.fallen(claimed.row, error)
            self._work.leave(claimed, ending)
            if receivers.any_for_success():
                self._record_here()
                around.distrust()
            if self._marks.slow:
                self.ending.wait(random.uniform(*SLOW))  # noqa: S311
        connections.close_all()

    def _next(self) -> ClaimedRow | None:
        """The next row to run. A thread that waits long for it gives its connections up."""
        if not self._work.wait(IDLE):
            close_old_connections()
        return self._work.take()

    def _is_ours(self, claimed: ClaimedRow) -> bool:
        """Whether a row is still ours to start. One that waited a while may have been lost.

        Raises:
            Unsure: the database does not say.
        """
        if elapsed() - claimed.claimed_at < STALE:
            return True
        try:
            if claims.confirm(claimed.row):
                return True
        except (DatabaseError, InterfaceError):
            connections.close_all()
            raise Unsure from None
        report_lost(claimed.row)
        return False

    def _run(self, claimed: ClaimedRow, around: Surroundings) -> Ending:
        run = self._runs.of(claimed)
        mark = self._marks.begin(claimed.pk, run.limit)
        ending = executor.run(run, around)
        self._marks.ran(mark)
        ending.mark = mark
        return ending

    def _record_here(self) -> None:
        """Where a receiver is connected, record in the thread that ran, not to hold up the keeper.

        If the database is away, or this thread too busy, the keeper does it.
        """
        try:
            if not self._recording.record_here():
                return
        except (DatabaseError, InterfaceError):
            connections.close_all()
        self._wakeup.poke()

    # --- coroutines

    async def run_coroutine(self, claimed: ClaimedRow, cancellation: Cancellation) -> None:
        """Run a row of a coroutine function to its end, or give it back if it has not begun.

        Args:
            cancellation: says why, when this is cancelled.
        """
        ending = None
        try:
            if await self._is_ours_still(claimed):
                ending = await self._await(claimed, cancellation)
        except (Unsure, executor.Unstarted, asyncio.CancelledError) as error:
            if isinstance(error, Unsure):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(RETRY)
            self._work.give_back(claimed)
            return
        self._work.leave(claimed, ending)

    async def _is_ours_still(self, claimed: ClaimedRow) -> bool:
        if elapsed() - claimed.claimed_at < STALE:
            return True
        return await sync_to_async(self._is_ours)(claimed)

    async def _await(self, claimed: ClaimedRow, cancellation: Cancellation) -> Ending:
        run = self._runs.of(claimed)
        # It is cancelled in time; its process is ended only if that is of no use.
        grace = conf.grace()
        mark = self._marks.begin(claimed.pk, run.limit and run.limit + grace, patience=grace)
        try:
            ending = await executor.run_coroutine(run, cancellation)
        except executor.Unstarted:
            self._marks.end([mark])
            raise
        self._marks.ran(mark)
        ending.mark = mark
        return ending

    def settle(self, claimed: ClaimedRow, error: BaseException | None) -> None:
        """A coroutine of ours ended in the middle.

        Args:
            error: what it raised; None: it was cancelled before it began.
        """
        if error is None:
            self._work.give_back(claimed)
        else:
            self._work.leave(claimed, executor.fallen(claimed.row, error))


class Unsure(Exception):
    """Nobody can say now whether a row is still ours."""
