"""Bells: how one thread of a worker wakes another that has nothing to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from bgtasks.worker.wakeup import WakeUp


class KeeperBell:
    """Wakes the keeper when a thread has something for it, and only if it sleeps.

    To wake it costs a system call; a keeper that is awake will look before it sleeps.
    """

    def __init__(self, wakeup: WakeUp) -> None:
        self._wakeup = wakeup
        self._lock = threading.Lock()
        self._asleep = self._rang = False

    def ring(self) -> None:
        with self._lock:
            if not self._asleep:
                self._rang = True
                return
            self._asleep = False
        self._wakeup.poke()

    def fall_asleep(self) -> bool:
        """Have `ring` wake the keeper from now on; False if it rang since the last time."""
        with self._lock:
            self._asleep, self._rang = not self._rang, False
            return self._asleep


class LoopBell:
    """Wakes the event loop, once there is one.

    By a callback and not by an `asyncio.Event` that a coroutine waits for: a task may cancel all
    others of its loop, and that coroutine would be among them.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answer: Callable[[], None] = lambda: None

    def hang(self, loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
        """From now on, ring in this loop; what is called there starts what may start."""
        self._loop, self._answer = loop, answer
        self.ring()

    def ring(self, count: int = 0) -> None:
        """Have the loop look for what has changed. Any thread may do so.

        Args:
            count: how many rows are new; a loop looks at all that there are.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed, perhaps only just
                self._loop.call_soon_threadsafe(self._answer)
