"""Servers of the tests: ports that nobody else takes, and a real mail server."""

from __future__ import annotations

import asyncio
import email
import email.policy
import queue
from email.message import EmailMessage

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
