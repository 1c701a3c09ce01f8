"""Wakes coroutines whose tasks have ended: one thread and one connection for a whole process.

If each coroutine waited in a thread of its own, it would take that from a pool that others need
too: perhaps the very task that it waits for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, connections

from bgtasks.logs import get_logger
from bgtasks.queue import outcomes
from bgtasks.queue.listen import Listener, listener, wait_for_change
from bgtasks.queue.notify import ENDED_CHANNEL

logger = get_logger(__name__)

# The poll interval in seconds, which holds also without a notification, and the pause after an
# error.
POLL_EVERY = 1.0


class Waiter:
    """A coroutine that waits for a task."""

    def __init__(self, task_id: int) -> None:
        self.task_id = task_id
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """Wake the coroutine, for its task has ended. Any thread may call this."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    async def wait(self, timeout: float) -> None:
        """Return when the task has ended, or after ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()


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
    global _thread
    waiter = Waiter(task_id)
    with _lock:
        _waiters.add(waiter)
        if _thread is None or not _thread.is_alive():  # in a forked child it is not alive
            _thread = threading.Thread(target=_listen, name="bgtasks-waiters", daemon=True)
            _thread.start()
    try:
        yield waiter
    finally:
        with _lock:
            _waiters.discard(waiter)


def _listen() -> None:
    """What the thread does: listen, for as long as somebody waits."""
    global _thread
    while True:
        try:
            _listen_on(listener(ENDED_CHANNEL))
        except (DatabaseError, InterfaceError) as error:  # those who wait poll by themselves too
            logger.debug("Coroutines that wait for results cannot be woken: %s", error)
            time.sleep(POLL_EVERY)
        finally:
            connections.close_all()
        with _lock:
            if not _waiters:
                _thread = None
                return


def _listen_on(listening: Listener) -> None:
    try:
        while waiting := _waiters_now():
            listening.prepare()  # before the query: what ends after that is notified
            ended = set(outcomes.ended_of([waiter.task_id for waiter in waiting]))
            for waiter in waiting:
                if waiter.task_id in ended:
                    waiter.wake()
            wait_for_change(listening, POLL_EVERY)
    finally:
        listening.close()


def _waiters_now() -> list[Waiter]:
    with _lock:
        return list(_waiters)
