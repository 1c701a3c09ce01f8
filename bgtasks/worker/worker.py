"""A child: a keeper that claims and records, and those who run what is claimed.

Plain functions run in threads, coroutines in one event loop. With one thread, plain tasks run in
the process's main thread, as they always did: some set signal handlers or need it otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from background_task.models import Task
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.queue import claims, receivers
from bgtasks.queue.claims import Claimant
from bgtasks.queue.database import options_of
from bgtasks.queue.ending import Ending
from bgtasks.running import executor
from bgtasks.running.isolation import Surroundings
from bgtasks.tasks import policies, registry
from bgtasks.tasks.current import CurrentTask
from bgtasks.worker.event_loop import EventLoop
from bgtasks.worker.keeper import Keeper
from bgtasks.worker.options import Options
from bgtasks.worker.pacing import Pace
from bgtasks.worker.recorder import Recorder, report_lost
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


class Worker:
    """Runs rows until it is told to stop, or, draining, until none is ready.

    Args:
        claimant: in whose name it claims.
        marks: where it marks what it has begun.
        parent: the reading end of the parent's pipe, if there is a parent.
        crash: called if the keeper itself fails; a child ends there, so that its parent takes
            its rows back.
    """

    def __init__(
        self,
        claimant: Claimant,
        marks: Marks,
        options: Options,
        parent: int | None = None,
        crash: Callable[[], None] = lambda: None,
    ) -> None:
        self._marks = marks
        self._crash = crash
        self._threads = options.threads
        self._lonely = options.threads * options.processes == 1
        self._loop = EventLoop(self._run_coroutine, self._settle)
        self._wakeup = WakeUp(parent)
        self._work = Workload(
            options, self._wakeup.poke, lambda: marks.retiring, self._loop.wake
        )  # fmt: skip
        self._loop.serve(self._work)
        pace = Pace()
        recorder = Recorder(marks, pace)
        self._keeper = Keeper(claimant, options, self._work, recorder, self._wakeup, pace)
        self._ending = threading.Event()
        self._found: dict[str, tuple[Callable[..., Any], float | None]] = {}

    def stop(self, *_: object) -> None:
        """Claim nothing more, hand back what has not started, end when the rest has ended.

        Safe in a signal handler.
        """
        self._keeper.stop()

    def poke(self) -> None:
        """Look for work now."""
        self._keeper.look()
        self._wakeup.poke()

    def run(self) -> bool:
        """Run rows. Returns whether it ended because it was told to, or had drained."""
        keep = partial(self._keeper.run, self._heed)
        keeper = threading.Thread(target=self._serve, args=[keep], name="bgtasks-keeper")
        keeper.start()
        if self._threads == 1:
            self._serve(self._execute)
        else:
            threads = [
                threading.Thread(target=self._serve, args=[self._execute], name=f"bgtasks-{number}")
                for number in range(self._threads)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        keeper.join()
        self._loop.join()
        return not self._wakeup.orphaned

    def close(self) -> None:
        """Once nobody pokes it any more but signals. A child need not: it exits."""
        self._wakeup.close()

    def _serve(self, loop: Callable[[], None]) -> None:
        """What a thread does. Should it fail, the others would wait for it for ever."""
        try:
            loop()
        except BaseException:
            try:
                name = threading.current_thread().name
                logger.critical("Thread %s failed, and with it this worker.", name, exc_info=True)
            finally:
                self._crash()
                self.stop()
                self._work.close()

    def _heed(self) -> None:
        """What the supervisor asks for besides, and what follows from the end being near."""
        if self._marks.stopping:
            self._keeper.stop()
        if self._marks.cancelling:
            self._loop.cancel()
        for row_id in self._marks.revoked():
            self._loop.cancel_one(row_id)
        if self._work.closed:
            self._ending.set()

    def _find(self, name: str) -> tuple[Callable[..., Any], float | None]:
        """A task's function, and the seconds that it may take."""
        found = self._found.get(name)
        if found is None:
            proxy = registry.find(name)
            found = self._found[name] = proxy.task_function, policies.of(name).limit
        return found

    # --- plain functions

    def _execute(self) -> None:
        lane, around = self._work.plain, Surroundings(ours=True)
        while row := self._next():
            ending = None
            try:
                if self._is_ours(row):
                    ending = self._run(row, around)
            except Unsure:
                self._work.give_back(lane, row)
                self._ending.wait(RETRY)
                continue
            except BaseException as error:  # ours, not the task's: that is caught where it runs
                ending = executor.fallen(row, error)
            self._work.leave(lane, row, ending)
            if receivers.listened_to():
                self._record_heard()
                around.distrust()
            if self._marks.slow:
                self._ending.wait(random.uniform(*SLOW))  # noqa: S311
        connections.close_all()

    def _next(self) -> Task | None:
        """The next row to run. A thread that waits long for it gives its connections up."""
        if not self._work.wait(IDLE):
            close_old_connections()
        return self._work.take()

    def _is_ours(self, row: Task) -> bool:
        """Whether a row is still ours to start. One that waited a while may have been lost.

        Raises:
            Unsure: the database does not say.
        """
        if elapsed() - row._bgtasks_claimed_at < STALE:
            return True
        try:
            if claims.confirm(row):
                return True
        except (DatabaseError, InterfaceError):
            connections.close_all()
            raise Unsure from None
        report_lost(row)
        return False

    def _run(self, row: Task, around: Surroundings) -> Ending:
        function, limit = self._find(row.task_name)
        limit = options_of(row).get("timeout") or limit
        task = CurrentTask(row, limit, self._work.report, self._lonely)
        mark = self._marks.begin(row.pk, limit)
        try:
            ending = executor.run(row, function, limit, around, task)
        except BaseException as error:  # ours, not the task's: that is caught where it runs
            ending = executor.fallen(row, error)
        self._marks.ran(mark)
        ending.mark = mark
        return ending

    def _record_heard(self) -> None:
        """Record what somebody listens to in the thread that ran it, not to hold up the keeper.

        If the database is away, or this thread too busy, the keeper does it.
        """
        try:
            self._keeper.record_heard()
        except (DatabaseError, InterfaceError):
            connections.close_all()

    # --- coroutines

    async def _run_coroutine(self, row: Task) -> None:
        lane = self._work.coroutines
        ending = None
        try:
            if await self._is_ours_still(row):
                ending = await self._await(row)
        except (Unsure, executor.Unstarted, asyncio.CancelledError) as error:
            if isinstance(error, Unsure):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(RETRY)
            self._work.give_back(lane, row)
            return
        self._work.leave(lane, row, ending)

    async def _is_ours_still(self, row: Task) -> bool:
        if elapsed() - row._bgtasks_claimed_at < STALE:
            return True
        return await sync_to_async(self._is_ours)(row)

    async def _await(self, row: Task) -> Ending:
        function, limit = self._find(row.task_name)
        limit = options_of(row).get("timeout") or limit
        task = CurrentTask(row, limit, self._work.report)
        # It is cancelled in time; its process is ended only if that is of no use.
        mark = self._marks.begin(row.pk, limit and limit + conf.grace(), patience=conf.grace())
        try:
            ending = await executor.run_coroutine(
                row, function, limit, lambda: self._loop.why_cancelled(row.pk), task
            )
        except executor.Unstarted:
            self._marks.end([mark])
            raise
        except BaseException as error:  # ours, not the task's: that is caught where it runs
            ending = executor.fallen(row, error)
        self._marks.ran(mark)
        ending.mark = mark
        return ending

    def _settle(self, row: Task, error: BaseException | None) -> None:
        """A coroutine of ours ended in the middle.

        Args:
            error: what it raised; None: it was cancelled before it began.
        """
        if error is None:
            self._work.give_back(self._work.coroutines, row)
        else:
            self._work.leave(self._work.coroutines, row, executor.fallen(row, error))


class Unsure(Exception):
    """Nobody can tell now whether a row is still ours."""
