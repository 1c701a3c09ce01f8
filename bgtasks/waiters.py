"""Tells coroutines that tasks have ended: by one thread and one connection for all of a process.

Each that waited in a thread of its own would take one from a pool that others need too, perhaps
what it waits for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, InterfaceError, connections

from bgtasks.queue import outcomes
from bgtasks.queue.listen import Listener, listener, wait_for_change
from bgtasks.queue.notify import ENDED_CHANNEL

logger = logging.getLogger(__name__)

# Seconds between looks, whatever is heard, and after an error.
POLL_EVERY = 1.0


class Waiter:
    """A coroutine that waits for a task."""

    def __init__(self, task_id: int) -> None:
        self.task_id = task_id
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """From any thread: it has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    async def wait(self, timeout: float) -> None:
        """Return when it has ended, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()


_lock = threading.Lock()
_waiters: set[Waiter] = set()
_thread: threading.Thread | None = None


@contextmanager
def waiting_for(task_id: int) -> Iterator[Waiter]:
    """Listen for a task. What ended before this is not told: look once inside."""
    global _thread
    waiter = Waiter(task_id)
    with _lock:
        _waiters.add(waiter)
        if _thread is None or not _thread.is_alive():  # as in a child that was forked
            _thread = threading.Thread(target=_listen, name="bgtasks-waiters", daemon=True)
            _thread.start()
    try:
        yield waiter
    finally:
        with _lock:
            _waiters.discard(waiter)


def _listen() -> None:
    """Live for as long as somebody waits."""
    global _thread
    while True:
        try:
            _listen_on(listener(ENDED_CHANNEL))
        except (DatabaseError, InterfaceError) as error:  # those who wait look by themselves too
            logger.debug("Who waits for results is not told of them: %s", error)
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
            listening.prepare()  # before the look: what ends after it is heard
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
