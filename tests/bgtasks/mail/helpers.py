"""Mails in the queue, and what of them is sent, for the tests of mail."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
import pytest
from django.core.mail import EmailMessage
from django.db import connection

from bgtasks.mail import BackgroundEmailBackend, encryption
from bgtasks.models import Mail
from tests.bgtasks.project.mailing.messages import BYTES

BACKENDS = "tests.bgtasks.project.mailing.backends"


SECRETS = ("Ottilie", "Quarterly figures", "the treasure is buried", "zahlen.bin")


in_database = pytest.mark.django_db(transaction=True)


HAS_MAILERS = django.VERSION >= (6, 1)


def backend(**options: Any) -> BackgroundEmailBackend:
    mailer = {"mailer": "real"} if HAS_MAILERS else {}
    return BackgroundEmailBackend(**mailer, **options)


@contextmanager
def table_away(name: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE away RENAME TO {name}")


def queued(*messages: EmailMessage) -> list[EmailMessage]:
    """What a worker makes of mails."""
    assert backend().send_messages(messages) == len(messages)
    found = Mail.objects.order_by("pk")[: len(messages)]
    return [encryption.unseal(row.pk, row.body)[0] for row in found]


def attributes(message: EmailMessage) -> dict[str, Any]:
    names = ("connection", "_connection", "stored_headers")
    return {name: value for name, value in vars(message).items() if name not in names}


def shows(text: str) -> list[str]:
    """The secrets that stand in a text."""
    encoded = [*SECRETS, "example.com", email.base64mime.body_encode(BYTES)[:40]]
    return [secret for secret in encoded if secret.lower() in text.lower()]
