"""Servers of the tests: ports that nobody else takes, and a real mail server."""

from __future__ import annotations

import asyncio
import email
import email.policy
import queue
import socket
import threading
from contextlib import suppress
from email.message import EmailMessage
from urllib.parse import urlsplit, urlunsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from ephemeral_port_reserve import reserve


def free_port() -> int:
    """A port that the system gives to nobody else for the next minute, unless it is asked for."""
    return int(reserve())


class Mailbox:
    """A real SMTP server; what it takes can be awaited."""

    def __init__(self, port: int = 0, seconds_a_mail: float = 0) -> None:
        self._seconds = seconds_a_mail
        self._mails: queue.Queue[EmailMessage] = queue.Queue()
        self._controller = Controller(self, hostname="127.0.0.1", port=port or free_port())
        self._controller.start()
        self.url = f"smtp://127.0.0.1:{self._controller.port}"

    async def handle_DATA(  # noqa: N802  aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        await asyncio.sleep(self._seconds)
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self._mails.put(message)
        return "250 OK"

    def next_to(self, address: str, timeout: float = 60) -> EmailMessage:
        """Wait for the next mail to an address; others before it are dropped."""
        while True:
            mail = self._mails.get(timeout=timeout)
            if mail["To"] == address:
                return mail

    def close(self) -> None:
        self._controller.stop()


class Relay:
    """Passes connections on to a server, until it only swallows what it gets: it never answers.

    Args:
        url: of the server.

    Attributes:
        url: the same, through the relay.
        asked: set when something was swallowed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._swallowing = False
        self.asked = threading.Event()
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        port = self._sockets[0].getsockname()[1]
        user = f"{parts.username}@" if parts.username else ""
        self.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        self._swallowing = True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=[source, target], daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._swallowing:
                    self.asked.set()
                else:
                    target.sendall(data)
            if not self._swallowing:
                target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
