"""The task that sends a stored mail."""

from __future__ import annotations

import smtplib
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from background_task.models import Task
from django.core.mail import EmailMessage

from bgtasks import exceptions
from bgtasks.mail import send, sending
from bgtasks.models import Mail
from bgtasks.queue import mails
from tests.bgtasks.mail.helpers import BACKENDS, attributes, backend, in_database, shows
from tests.bgtasks.project.mailing.messages import secret_mail


@in_database
def test_a_mail_is_forgotten_once_it_is_sent_and_a_second_run_does_nothing(
    mailoutbox: list[EmailMessage],
) -> None:
    backend().send_messages([secret_mail()])
    pk = Mail.objects.get().pk
    assert send.now(pk) == "sent"
    assert not Mail.objects.exists()
    assert send.now(pk) == f"Nothing to do: mail {pk} was sent by an earlier run, or deleted."
    (sent,) = mailoutbox
    assert attributes(sent).items() >= attributes(secret_mail()).items()


@in_database
def test_a_backend_that_sends_nothing_has_failed(sent_by: Any) -> None:
    sent_by(f"{BACKENDS}.Idle")
    backend().send_messages([secret_mail()])
    with pytest.raises(exceptions.MailNotSent, match=r"Idle: it says that it sent none"):
        send.now(Mail.objects.get().pk)
    assert Mail.objects.exists()


@in_database
def test_a_backend_that_counts_nothing_has_sent(sent_by: Any, tmp_path: Path) -> None:
    sent_by(f"{BACKENDS}.Wordless", file_path=str(tmp_path))
    backend().send_messages([secret_mail()])
    assert send.now(Mail.objects.get().pk) == "sent"
    (file,) = tmp_path.iterdir()
    assert shows(file.read_text())


@pytest.mark.parametrize(
    "error",
    [
        smtplib.SMTPRecipientsRefused([("bob@example.com", (550, b"no"))]),
        smtplib.SMTPResponseException("bob@example.com", "no"),
    ],
)
def test_an_error_that_is_not_as_smtplib_makes_them_keeps_nothing_either(error: Exception) -> None:
    assert "bob" not in sending._harmless(error)


@in_database
def test_an_error_keeps_nothing_of_what_it_quotes(sent_by: Any) -> None:
    sent_by(f"{BACKENDS}.Talkative")
    backend().send_messages([secret_mail()])
    pk = Mail.objects.get().pk
    with pytest.raises(exceptions.MailNotSent) as told:
        send.now(pk)
    error = told.value
    assert f"Mail {pk} was not sent by {BACKENDS}.Talkative" in str(error)
    assert "ConnectionRefusedError, Connection refused (111), at " in str(error)
    assert "backends.py" in str(error)
    assert "Is the mail server there" in str(error)
    assert error.__cause__ is error.__context__ is None
    # Error trackers collect what stands in the frames below this one.
    (_, *frames) = traceback.walk_tb(error.__traceback__)
    assert frames
    assert not shows("".join(repr(frame.f_locals) for frame, _ in frames) + repr(error.args))


@in_database
def test_a_mail_that_cannot_be_read_stays_and_is_tried_again(settings: Any) -> None:
    settings.SECRET_KEY = "old"
    backend().send_messages([secret_mail()])
    settings.SECRET_KEY = "new"
    pk = Mail.objects.get().pk
    with pytest.raises(exceptions.UnreadableMail, match=f"Mail {pk} "):
        send.now(pk)
    assert Mail.objects.exists()


@in_database
def test_mails_are_pruned_when_they_are_old_and_nothing_is_to_send_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mails, "BATCH", 2)
    backend().send_messages([secret_mail() for _ in range(8)])
    old = list(Mail.objects.order_by("pk").values_list("pk", flat=True))[:7]
    Mail.objects.filter(pk__in=old).update(created_at=datetime(2020, 1, 1, tzinfo=UTC))
    (waiting,) = [row for row in Task.objects.all() if row.params()[0] == [old[0]]]
    Task.objects.exclude(pk=waiting.pk).delete()
    assert sum(mails.prune(timedelta(days=36500))) == 0
    assert list(mails.prune(timedelta(days=1))) == [1, 2, 2, 1]
    assert [row.pk for row in Mail.objects.order_by("pk")] == [old[0], old[-1] + 1]
