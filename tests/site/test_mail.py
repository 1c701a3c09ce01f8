"""Mails on a development machine: files that a mail program opens."""

from __future__ import annotations

import email
from email import policy
from pathlib import Path
from typing import Any

import django
import pytest
from django.core import mail
from django.core.mail import EmailMessage

from config.mail import mailers

pytestmark = pytest.mark.any_database

EML = {"EMAIL_BACKEND": "config.mail.EmlBackend"}


def test_each_mail_is_a_file_that_a_mail_program_opens(tmp_path: Path, settings: Any) -> None:
    if django.VERSION >= (6, 1):
        settings.MAILERS = mailers({**EML, "EMAIL_FILE_PATH": str(tmp_path)})
        connection: Any = mail.mailers["default"]
    else:
        connection = mail.get_connection(EML["EMAIL_BACKEND"], file_path=str(tmp_path))
    mails = [EmailMessage(f"Number {number}", "Hello", "a@b.c", ["d@e.f"]) for number in range(3)]
    assert connection.send_messages([*mails, EmailMessage("To nobody", "Hello")]) == 3
    files = sorted(tmp_path.iterdir())
    assert {file.suffix for file in files} == {".eml"}
    read = [email.message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
    assert [message["Subject"] for message in read] == ["Number 0", "Number 1", "Number 2"]
    assert read[0].get_content().strip() == "Hello"
