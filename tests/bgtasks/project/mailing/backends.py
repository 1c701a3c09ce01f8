"""Real backends, but for what happens to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends import filebased, smtp
from django.core.mail.backends.base import BaseEmailBackend

from bgtasks.mail import BackgroundEmailBackend


class Killed(smtp.EmailBackend):
    """Its first worker is killed when the server has taken the mail."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        sent = super().send_messages(email_messages)
        flag = Path(f"{settings.LEDGER}.killed")
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return sent


class Talkative(BaseEmailBackend):
    """Its errors quote the mail."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            raise ConnectionRefusedError(111, f"{message.to} refuse {message.subject}")
        return 0


class Idle(BaseEmailBackend):
    """Sends nothing, and does not say why."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        return 0


class Wordless(filebased.EmailBackend):
    """Sends, and does not say how many."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> Any:
        super().send_messages(email_messages)


class Again(BackgroundEmailBackend):
    """Queues what comes from the queue."""
