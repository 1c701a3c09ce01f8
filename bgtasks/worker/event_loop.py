"""The thread of a worker with an event loop, which runs all tasks that are coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from asgiref.sync import sync_to_async
from django.db import connections

from bgtasks.logs import get_logger
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.running import copies
from bgtasks.running.executor import Cancellation
from bgtasks.worker.bell import LoopBell
from bgtasks.worker.runner import Runner
from bgtasks.worker.workload import Workload

logger = get_logger(__name__)


class EventLoop:
    """Runs the rows of the workload's lane for coroutines.

    Args:
        bell: rings when a row may start, and when the workload is closed.
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
        """Start the thread when there is the first row for it. Many workers never need it."""
        if self._thread is None and not self._work.closed and self._work.has_coroutines:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._live, name="bgtasks-loop")
            self._thread.start()

    def cancel(self) -> None:
        """Cancel all runs, once: the supervisor is about to end this process."""
        if self._thread is not None and not self._cancelled:
            self._cancelled = True
            self._soon(self._cancel)

    def cancel_one(self, row_id: int) -> None:
        """Cancel the run of one row that was revoked, if it runs here."""
        if found := self._runs.get(row_id):
            task, cancellation = found
            cancellation.why = "it was revoked, and cancelled while it ran"
            self._soon(task.cancel)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _soon(self, callback: Callable[[], object]) -> None:
        """Have the loop's thread call something, unless the loop is closed: all runs have ended."""
        with suppress(RuntimeError):  # the loop may have been closed a moment ago
            self._loop.call_soon_threadsafe(callback)

    def _live(self) -> None:
        """Run the loop, in its thread, until the workload is closed and all runs have ended."""
        # When it is left, asyncio.Runner cancels and closes what tasks have left behind in the
        # loop: asyncio tasks, asynchronous generators, threads of the default executor.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            loop = runner.get_loop()
            self._bell.hang(loop, self._fill)
            with copies.abandoning(self._abandon):
                self._run_loop()
            # This closes the connections of the thread that ran the ORM for the coroutines. That
            # thread outlives the worker if the worker is not a process of its own.
            runner.run(sync_to_async(connections.close_all)())

    def _run_loop(self) -> None:
        while not self._ended:
            try:
                self._loop.run_forever()
            # If an asyncio task raises SystemExit or KeyboardInterrupt, that leaves the loop. The
            # executor catches those of a row's own coroutine, but not those of further asyncio
            # tasks that the coroutine has started.
            except BaseException:
                logger.exception("A coroutine ended the event loop; the others go on.")

    def _abandon(self) -> None:
        """In a copy of this process that a coroutine has forked: end it when the loop goes on.

        The callbacks that wait in the loop are the next steps of other coroutines. They are removed
        by the name that they have in asyncio, which offers no public way.
        """
        if threading.current_thread() is self._thread:
            with suppress(AttributeError):
                self._loop._ready.clear()  # type: ignore[attr-defined]
            self._loop.call_soon(copies.end_copy, "in an event loop")

    def _fill(self) -> None:
        """Start the rows that may start; end the loop if the workload is closed and none runs."""
        while (claimed := self._work.take_now()) is not None:
            cancellation = Cancellation()
            task = self._loop.create_task(self._runner.run_coroutine(claimed, cancellation))
            self._runs[claimed.pk] = task, cancellation
            task.add_done_callback(partial(self._done, claimed))
        if self._work.closed and not self._runs:
            self._ended = True
            self._loop.stop()

    def _done(self, claimed: ClaimedRow, task: asyncio.Task[None]) -> None:
        """Called when a run has ended: settle it if the runner could not leave its ending."""
        if self._runs.get(claimed.pk, (None,))[0] is task:
            del self._runs[claimed.pk]
        if task.cancelled():
            self._runner.settle(claimed, None)
        elif (error := task.exception()) is not None:
            self._runner.settle(claimed, error)
        self._fill()

    def _cancel(self) -> None:
        why = "its worker was asked to end, and it was cancelled while it ran"
        for task, cancellation in self._runs.values():
            cancellation.why = cancellation.why or why
            task.cancel()
