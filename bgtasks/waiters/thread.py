"""The thread that wakes the coroutines of a process whose tasks have changed.

If each coroutine waited in a thread of its own, it would take that from a pool that others need
too: perhaps the very task that it waits for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, connections

from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.operations import snapshots
from bgtasks.operations.snapshots import Snapshot
from bgtasks.queue.listen import Listener, listener, wait_for_change
from bgtasks.queue.notify import ENDED_CHANNEL
from bgtasks.waiters import web_server

logger = get_logger(__name__)

# The poll interval in seconds, which holds also without a notification, and the pause after an
# error. On PostgreSQL only endings are notified.
POLL_EVERY = 0.5
# The thread rests at least so many seconds between two looks at the database, and so many times as
# long as the last look took: a busy queue is written all the time.
SHORTEST_REST, REST = 0.005, 4.0


class Waiter:
    """A coroutine that waits for a task."""

    def __init__(self, task_id: int) -> None:
        self.task_id = task_id
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def see(self, snapshot: Snapshot | None) -> None:
        """Wake the coroutine if its task has ended. The thread calls this after each look.

        Args:
            snapshot: where the task stands; None if there is no such task.
        """
        if snapshot is not None and snapshot.ended:
            self.wake()

    def stop(self) -> None:
        """The process is asked to stop: who waits for a task's end goes on waiting."""

    def wake(self) -> None:
        """Wake the coroutine. Any thread may call this."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self, timeout: float) -> None:
        """Return when it was woken, or after ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()


class Watcher(Waiter):
    """A coroutine that waits for each change of a task.

    Attributes:
        latest: where the task stands; None if it is not there any more.
        stopping: the process was asked to stop, so the coroutine should end.
    """

    def __init__(self, task_id: int, seen: Snapshot) -> None:
        super().__init__(task_id)
        self.latest: Snapshot | None = seen
        self.stopping = False

    def see(self, snapshot: Snapshot | None) -> None:
        if snapshot != self.latest:
            self.latest = snapshot
            self.wake()

    def stop(self) -> None:
        self.stopping = True
        self.wake()

    async def change(self, timeout: float) -> bool:
        """Wait until `latest` or `stopping` has changed; False if ``timeout`` seconds passed."""
        await self.wait(timeout)
        changed = self._woken.is_set()
        self._woken.clear()
        return changed


_lock = threading.Lock()
_waiters: set[Waiter] = set()
_thread: threading.Thread | None = None


@contextmanager
def waiting_for(task_id: int) -> Iterator[Waiter]:
    """Register a waiter that is woken when a task ends. Call it in the event loop.

    A task that has ended before wakes it only at the next poll: so ask the database once inside.

    Yields:
        The waiter; await its `wait`.
    """
    with _registered(waiter := Waiter(task_id)):
        yield waiter


@contextmanager
def watching(task_id: int, seen: Snapshot) -> Iterator[Watcher]:
    """Register a watcher that is woken when a task changes. Call it in the event loop.

    Args:
        seen: where the task stood when the caller looked.

    Yields:
        The watcher; await its `change`.
    """
    with _registered(watcher := Watcher(task_id, seen)):
        yield watcher


@contextmanager
def _registered(waiter: Waiter) -> Iterator[None]:
    global _thread
    with _lock:
        _waiters.add(waiter)
        if _thread is None or not _thread.is_alive():  # in a forked child it is not alive
            _thread = threading.Thread(target=_listen, name="bgtasks-waiters", daemon=True)
            _thread.start()
    try:
        yield
    finally:
        with _lock:
            _waiters.discard(waiter)


def _listen() -> None:
    """What the thread does: listen, for as long as somebody waits."""
    global _thread
    while True:
        try:
            _listen_on(listener(ENDED_CHANNEL))
        except (DatabaseError, InterfaceError) as error:
            logger.debug("Coroutines that wait for tasks cannot be woken: %s", error)
            _stop_with_the_server(_waiters_now())
            time.sleep(POLL_EVERY)
        finally:
            connections.close_all()
        with _lock:
            if not _waiters:
                _thread = None
                return


def _listen_on(listening: Listener) -> None:
    try:
        listening.prepare()  # before the first look: what ends after that is notified
        while waiting := _waiters_now():
            began = elapsed()
            _look(waiting)
            _stop_with_the_server(waiting)
            time.sleep(min(POLL_EVERY, max(SHORTEST_REST, REST * (elapsed() - began))))
            # The answer to a statement may have brought a notification.
            if not listening.prepare():
                wait_for_change(listening, POLL_EVERY)
    finally:
        listening.close()


def _look(waiting: Sequence[Waiter]) -> None:
    found = snapshots.of(list({waiter.task_id for waiter in waiting}))
    for waiter in waiting:
        waiter.see(found.get(waiter.task_id))


def _stop_with_the_server(waiting: Sequence[Waiter]) -> None:
    if web_server.is_stopping():
        for waiter in waiting:
            waiter.stop()


def _waiters_now() -> list[Waiter]:
    with _lock:
        return list(_waiters)
