"""How a sleeping keeper is woken: by a thread, by a signal handler, by its parent."""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import suppress


class WakeUp:
    """Waits for a poke, from this process or from the parent, or until a time is over.

    Args:
        parent: the reading end of a pipe whose writing end the parent holds; None without a
            parent.

    Attributes:
        orphaned: whether the parent has died: the writing end of its pipe is closed.
    """

    def __init__(self, parent: int | None = None) -> None:
        # These are sockets because Windows cannot wait for a pipe.
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
        """End the current or the next `wait`. Safe in a signal handler and in any thread.

        After `close` it does nothing.
        """
        if (writer := self._writer) is None:
            return
        # The buffer is full of pokes that nobody has read yet, or another thread has closed it now.
        with suppress(OSError):
            writer.send(b".")

    def wait(self, timeout: float | None, also: int | None = None) -> bool:
        """Return at the next poke, or after ``timeout`` seconds.

        Args:
            timeout: seconds; None for no limit.
            also: a file descriptor that ends the wait too when it is readable. It is not read.

        Returns:
            Whether `also` became readable, or the parent poked or has died.
        """
        if also is not None:
            self._selector.register(also, selectors.EVENT_READ)
        try:
            events = self._selector.select(timeout)
        finally:
            if also is not None:
                self._selector.unregister(also)
        from_outside = [self._read(key.fd) for key, _ in events]
        return any(from_outside)

    def _read(self, fd: int) -> bool:
        """Consume the pokes of a readable descriptor. Returns whether it is not our own."""
        if fd == self._reader.fileno():
            self._reader.recv(4096)
            return False
        if fd == self._parent and not os.read(fd, 4096):
            self._selector.unregister(fd)
            self.orphaned = True
        return True

    def close(self) -> None:
        """Close the sockets. A signal handler may still call `poke`, other threads may not."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._selector.close()
            self._reader.close()
            writer.close()
