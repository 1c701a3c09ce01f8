"""A TCP port that leads to another one until it is cut off: one test's outage of a service."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Forwarder:
    """Forwards the connections to a port of this machine.

    Args:
        target: the port that connections are forwarded to.
        port: the port that it listens on; any free one by default.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self._server: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._flows = threading.Event()
        self._flows.set()
        self.port = port
        self.join()

    def join(self) -> None:
        """Take connections, as at first."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def cut(self) -> None:
        """Refuse connections, and break those that there are."""
        if self._server:
            # A close alone would not end an `accept` that waits.
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._server = None
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Take connections, keep those that there are, and forward nothing until `thaw`."""
        self._flows.clear()

    def thaw(self) -> None:
        """Forward what was held up, and all that comes."""
        self._flows.set()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                self._open.add(source)
                threading.Thread(target=self._copy, args=[source, sink], daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()
