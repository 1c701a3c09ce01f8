"""Bells: how one thread of a worker wakes another that has nothing to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from bgtasks.worker.wakeup import WakeUp


class KeeperBell:
    """Wakes the keeper when a thread has something for it, and only if it sleeps.

    Waking it costs a system call. A keeper that is awake needs none: before it falls asleep it asks
    whether the bell has rung (`fall_asleep`).
    """

    def __init__(self, wakeup: WakeUp) -> None:
        self._wakeup = wakeup
        self._lock = threading.Lock()
        self._asleep = self._rang = False

    def ring(self) -> None:
        """Wake the keeper, or keep it from falling asleep. Any thread may do so."""
        with self._lock:
            if not self._asleep:
                self._rang = True
                return
            self._asleep = False
        self._wakeup.poke()

    def fall_asleep(self) -> bool:
        """Have `ring` wake the keeper from now on.

        Returns:
            False if the bell has rung since the keeper fell asleep last. Then it stays awake.
        """
        with self._lock:
            self._asleep, self._rang = not self._rang, False
            return self._asleep


class LoopBell:
    """Wakes the event loop, once there is one.

    It schedules a callback in the loop. An `asyncio.Event` would need a coroutine that waits for
    it, and a task that cancels everything in its loop would cancel that coroutine too.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answer: Callable[[], None] = lambda: None

    def hang(self, loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
        """From now on, ring in this loop.

        Args:
            answer: called in the loop's thread at each ring; it starts the rows that may start.
        """
        self._loop, self._answer = loop, answer
        self.ring()

    def ring(self, count: int = 0) -> None:
        """Have the loop call `answer`. Any thread may do so.

        Args:
            count: how many rows are new. The loop does not need it: it starts all that may start.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop may have been closed a moment ago
                self._loop.call_soon_threadsafe(self._answer)
