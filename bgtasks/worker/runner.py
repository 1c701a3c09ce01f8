"""Runs the rows of a workload. It takes a row out, runs it, and leaves its ending there."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import suppress
from functools import partial

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import claims, receivers
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.queue.ending import Ending
from bgtasks.running import executor
from bgtasks.running.executor import Cancellation
from bgtasks.running.isolation import Surroundings
from bgtasks.running.run import Runs
from bgtasks.worker.recorder import report_lost
from bgtasks.worker.recording import Recording
from bgtasks.worker.shared_state import Marks, begin_anew
from bgtasks.worker.wakeup import WakeUp
from bgtasks.worker.workload import Workload

logger = get_logger(__name__)

# If a claimed row has waited for more seconds than this, its claim is confirmed before it starts.
STALE = 1.0
# Seconds until the next attempt to confirm a claim while the database is away.
CONFIRM_RETRY = 0.1
# After so many seconds without a row, a thread closes connections older than CONN_MAX_AGE.
IDLE = 10.0
# The fewest and the most seconds between two tasks after SIGUSR2. The number is random.
SLOW = (0.5, 1.5)


class Runner:
    """Runs rows in the thread, or in the event loop, that calls it.

    Args:
        marks: where it marks the rows that it has begun.
        lonely: whether this worker runs one task at a time.

    Attributes:
        ending: set when the worker is about to end, so that no thread sleeps any longer.
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
        """Run rows of plain functions, one after another, until the workload is closed."""
        around = Surroundings(ours=True)
        while claimed := self._next():
            ending = None
            try:
                if self._is_ours(claimed):
                    ending = self._run(claimed, around)
            except Unsure:
                self._work.give_back(claimed)
                self.ending.wait(CONFIRM_RETRY)
                continue
            # The executor catches what the task raises, so this is an error of bgtasks itself.
            except BaseException as error:
                ending = executor.fallen(claimed.row, error)
            self._work.leave(claimed, ending)
            if receivers.any_for_success():
                self._record_here()
                around.distrust()
            if self._marks.slow:
                self.ending.wait(random.uniform(*SLOW))  # noqa: S311
        connections.close_all()

    def _next(self) -> ClaimedRow | None:
        """The next row to run; None if there will be no more.

        A thread that waits long for it closes its old connections meanwhile.
        """
        if not self._work.wait(IDLE):
            close_old_connections()
        return self._work.take()

    def _is_ours(self, claimed: ClaimedRow) -> bool:
        """Whether a row is still ours to start: one that has waited for a while may be lost.

        Raises:
            Unsure: the database does not answer.
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
        limit = run.ended_after()
        mark = self._marks.begin(claimed.pk, None if run.atomic else limit)
        if run.atomic and limit:
            run.on_begin = partial(begin_anew, self._marks, mark, limit)
        ending = executor.run(run, around)
        self._marks.ran(mark)
        ending.mark = mark
        return ending

    def _record_here(self) -> None:
        """Record endings in this thread, because receivers are connected that could take long.

        So they do not hold up the keeper. If the database does not answer, the keeper tries again.
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
            cancellation: says why, if the worker cancels this.
        """
        ending = None
        try:
            if await self._is_ours_still(claimed):
                ending = await self._await(claimed, cancellation)
        except (Unsure, executor.Unstarted, asyncio.CancelledError) as error:
            if isinstance(error, Unsure):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(CONFIRM_RETRY)
            self._work.give_back(claimed)
            return
        self._work.leave(claimed, ending)

    async def _is_ours_still(self, claimed: ClaimedRow) -> bool:
        if elapsed() - claimed.claimed_at < STALE:
            return True
        return await sync_to_async(self._is_ours)(claimed)

    async def _await(self, claimed: ClaimedRow, cancellation: Cancellation) -> Ending:
        run = self._runs.of(claimed)
        # A coroutine is cancelled when its limit is over. The limit that the supervisor sees is
        # longer, so that it ends the process only if the coroutine does not heed the cancellation.
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
        """Settle a row for which `run_coroutine` itself was cancelled or raised.

        Args:
            error: what it raised; None if it was cancelled before it began.
        """
        if error is None:
            self._work.give_back(claimed)
        else:
            self._work.leave(claimed, executor.fallen(claimed.row, error))


class Unsure(Exception):
    """The database does not answer whether a row is still ours."""
