"""How a child's keeper is woken from its sleep."""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import suppress


class WakeUp:
    """Waits for a poke from this process, a word from the parent, or the time to look again.

    Args:
        parent: the reading end of a pipe that the parent holds; None without a parent.
    """

    def __init__(self, parent: int | None = None) -> None:
        # Sockets, for Windows cannot wait for a pipe.
        self._reader, writer = socket.socketpair()
        self._reader.setblocking(False)
        writer.setblocking(False)
        self._writer: socket.socket | None = writer
        self._parent = parent
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        if parent is not None:
            os.set_blocking(parent, False)
            self._selector.register(parent, selectors.EVENT_READ)
        self.orphaned = False

    def poke(self) -> None:
        """Wake the waiter, if it still waits. Safe in a signal handler and in any thread."""
        if (writer := self._writer) is None:
            return
        with suppress(BlockingIOError):  # full of pokes that nobody has heard yet
            writer.send(b".")

    def wait(self, timeout: float | None, also: int | None = None) -> bool:
        """Return at the next poke, or after ``timeout`` seconds.

        Args:
            also: a file descriptor to wait for besides; it is not read.

        Returns:
            Whether that became readable, or the parent sent word.
        """
        if also is not None:
            self._selector.register(also, selectors.EVENT_READ)
        try:
            events = self._selector.select(timeout)
        finally:
            if also is not None:
                self._selector.unregister(also)
        heard = [self._hear(key.fd) for key, _ in events]
        return any(heard)

    def _hear(self, fd: int) -> bool:
        if fd == self._reader.fileno():
            self._reader.recv(4096)
            return False
        if fd == self._parent and not os.read(fd, 4096):  # its end is closed: the parent is gone
            self._selector.unregister(fd)
            self.orphaned = True
        return True

    def close(self) -> None:
        """Wait no more. Signals may poke on, even in the middle of this; other threads may not."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._selector.close()
            self._reader.close()
            writer.close()
