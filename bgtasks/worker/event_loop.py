"""One event loop in a thread of a worker, for all its tasks that are coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from asgiref.sync import sync_to_async
from django.db import connections

from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.running.executor import Cancellation
from bgtasks.worker.bell import LoopBell
from bgtasks.worker.runner import Runner
from bgtasks.worker.workload import Workload

logger = logging.getLogger(__name__)


class EventLoop:
    """Runs the rows of the workload's lane for coroutines.

    Args:
        bell: rings when a row may start, or when all is over.
    """

    def __init__(self, work: Workload, runner: Runner, bell: LoopBell) -> None:
        self._work = work
        self._runner = runner
        self._bell = bell
        self._loop: asyncio.AbstractEventLoop
        self._runs: dict[int, tuple[asyncio.Task[None], Cancellation]] = {}  # by the rows' ids
        self._thread: threading.Thread | None = None
        self._ended = False
        self._cancelled = False

    def start_if_needed(self) -> None:
        """Start the thread with the first row that it is to run."""
        if self._thread is None and not self._work.closed and self._work.has_coroutines:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._live, name="bgtasks-loop")
            self._thread.start()

    def cancel(self) -> None:
        """Cancel what runs: the worker is about to be ended."""
        if self._thread is not None and not self._cancelled:
            self._cancelled = True
            self._soon(self._cancel)

    def cancel_one(self, row_id: int) -> None:
        """Cancel the run of one row, if it is here."""
        if found := self._runs.get(row_id):
            task, cancellation = found
            cancellation.why = "it was revoked, and cancelled while it ran"
            self._soon(task.cancel)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _soon(self, callback: Callable[[], object]) -> None:
        """Have the loop's thread do something, unless all that ran there has ended."""
        with suppress(RuntimeError):  # it is closed, perhaps only just
            self._loop.call_soon_threadsafe(callback)

    def _live(self) -> None:
        # The runner ends what tasks left behind in the loop: tasks of theirs, generators, threads.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            loop = runner.get_loop()
            self._bell.hang(loop, self._fill)
            while not self._ended:
                try:
                    loop.run_forever()
                # SystemExit and KeyboardInterrupt of a task's own tasks come through to here.
                except BaseException:
                    logger.exception("A coroutine ended the event loop; the others go on.")
            # Of the thread that ran the ORM for them, which lives on where this is no process.
            runner.run(sync_to_async(connections.close_all)())

    def _fill(self) -> None:
        while (claimed := self._work.take_now()) is not None:
            cancellation = Cancellation()
            task = self._loop.create_task(self._runner.run_coroutine(claimed, cancellation))
            self._runs[claimed.pk] = task, cancellation
            task.add_done_callback(partial(self._done, claimed))
        if self._work.closed and not self._runs:
            self._ended = True
            self._loop.stop()

    def _done(self, claimed: ClaimedRow, task: asyncio.Task[None]) -> None:
        if self._runs.get(claimed.pk, (None,))[0] is task:
            del self._runs[claimed.pk]
        if task.cancelled():
            self._runner.settle(claimed, None)
        elif (error := task.exception()) is not None:
            self._runner.settle(claimed, error)
        self._fill()

    def _cancel(self) -> None:
        why = "its worker was told to end, and it was cancelled while it ran"
        for task, cancellation in self._runs.values():
            cancellation.why = cancellation.why or why
            task.cancel()
