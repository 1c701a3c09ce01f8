"""One event loop in a thread of a child, for all its tasks that are coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from background_task.models import Task
from django.db import connections

from bgtasks.worker.workload import Workload

logger = logging.getLogger(__name__)


class EventLoop:
    """Runs the rows of the workload's lane for coroutines. Its thread starts with the first.

    Args:
        run: runs one row to its end.
        settle: called with the row where that did not come to its end: it raised, or it was
            cancelled before it began.
    """

    def __init__(
        self,
        run: Callable[[Task], Coroutine[Any, Any, None]],
        settle: Callable[[Task, BaseException | None], None],
    ) -> None:
        self._run = run
        self._settle = settle
        self._work: Workload
        self._loop: asyncio.AbstractEventLoop
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by the ids of their rows
        self._thread: threading.Thread | None = None
        self._ended = False
        self._revoked: set[int] = set()
        self.cancelled = False

    def serve(self, work: Workload) -> None:
        """Run the rows of this workload, which must wake us."""
        self._work = work

    def wake(self, count: int) -> None:
        """See whether a row may start, or whether all has ended.

        Args:
            count: how many rows are new.
        """
        if self._ended:
            return
        if self._thread is None:
            if not count:
                return
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._live, name="bgtasks-loop")
            self._thread.start()
        self._soon(self._fill)

    def cancel(self) -> None:
        """Cancel what runs: the child is about to be ended."""
        if self._thread is not None and not self.cancelled:
            self.cancelled = True
            self._soon(self._cancel)

    def cancel_one(self, row_id: int) -> None:
        """Cancel the run of one row, if it is here."""
        if task := self._tasks.get(row_id):
            self._revoked.add(row_id)
            self._soon(task.cancel)

    def _soon(self, callback: Callable[[], object]) -> None:
        """Have the loop's thread do something, unless all that ran there has ended."""
        with suppress(RuntimeError):  # it is closed, perhaps only just
            self._loop.call_soon_threadsafe(callback)

    def why_cancelled(self, row_id: int) -> str:
        """Why we cancelled a row's run; empty if we did not."""
        if row_id in self._revoked:
            return "it was revoked, and cancelled while it ran"
        if self.cancelled:
            return "its worker was told to end, and it was cancelled while it ran"
        return ""

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _live(self) -> None:
        # The runner ends what tasks left behind in the loop: tasks of theirs, generators, threads.
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            loop = runner.get_loop()
            while not self._ended:
                try:
                    loop.run_forever()
                # SystemExit and KeyboardInterrupt of a task's own tasks come through to here.
                except BaseException:
                    logger.exception("A coroutine ended the event loop; the others go on.")
            # Of the thread that ran the ORM for them, which lives on where this is no process.
            runner.run(sync_to_async(connections.close_all)())

    def _fill(self) -> None:
        while (row := self._work.take_now()) is not None:
            task = self._tasks[row.pk] = self._loop.create_task(self._run(row))
            task.add_done_callback(partial(self._done, row))
        if self._work.closed and not self._tasks:
            self._ended = True
            self._loop.stop()

    def _done(self, row: Task, task: asyncio.Task[None]) -> None:
        if self._tasks.get(row.pk) is task:
            del self._tasks[row.pk]
            self._revoked.discard(row.pk)
        if task.cancelled():
            self._settle(row, None)
        elif (error := task.exception()) is not None:
            self._settle(row, error)
        self._fill()

    def _cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
