"""Mails through real workers to a real mail server."""

from __future__ import annotations

import email
import email.policy
import queue
import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage as ModernMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.bgtasks.mail.helpers import BACKENDS, HAS_MAILERS, shows
from tests.bgtasks.project.mailing.messages import BYTES
from tests.harness.deployment import Deployment
from tests.harness.servers import free_port

Deploy = Callable[..., Deployment]


APP = {"MORE_APPS": "tests.bgtasks.project.mailing"}


class Server:
    """A real SMTP server, which answers as it is told to."""

    def __init__(self) -> None:
        self.mails: queue.Queue[Envelope] = queue.Queue()
        self.answer_to_recipient = self.answer = "250 OK"
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self._controller.start()
        self.port = self._controller.port

    async def handle_RCPT(  # noqa: N802  aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.answer_to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer_to_recipient.format(address)

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.mails.put(envelope)
        return self.answer

    def next(self) -> tuple[Envelope, ModernMessage]:
        envelope = self.mails.get(timeout=60)
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, ModernMessage)
        return envelope, message

    def close(self) -> None:
        self._controller.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def mailing(deploy: Deploy, server: Server, **more: Any) -> Deployment:
    return deploy(
        EMAIL_BACKEND="bgtasks.mail.BackgroundEmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=server.port,
        **more,
    )


def post(project: Deployment) -> None:
    """Send the secret mail, by Django's own way."""
    project.run(
        "from tests.bgtasks.project.mailing.messages import secret_mail\n"
        "assert secret_mail().send() == 1"
    )


def everything(project: Deployment) -> str:
    """All rows of all tables."""
    listing = (
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
        if project.database.on_postgresql
        else "SELECT name FROM sqlite_master WHERE type = 'table'"
    )
    names = [row["name"] for row in project.database.query(listing)]
    assert {"bgtasks_mail", "background_task", "bgtasks_attempt", "bgtasks_outcome"} <= set(names)
    return repr([project.database.query(f'SELECT * FROM "{name}"') for name in names])


def test_a_worker_sends_a_mail_with_its_attachments(deploy: Deploy, server: Server) -> None:
    project = mailing(deploy, server)
    post(project)
    assert server.mails.empty()
    assert not shows(everything(project))
    said = project.drain(**APP)
    envelope, mail = server.next()
    assert envelope.mail_from == "sender@example.com"
    assert envelope.rcpt_tos == ["ottilie@example.com", "carl@example.com", "bob@example.com"]
    assert (mail["Subject"], mail["Bcc"]) == ("Quarterly figures", None)
    assert mail["Reply-To"] == "answers@example.com"
    first, second = mail.iter_attachments()
    assert (first.get_filename(), first.get_content()) == ("zahlen.bin", BYTES)
    assert second.get_content().rstrip() == "the treasure is buried, \N{SNOWMAN}"
    html = mail.get_body(["html"])
    assert html
    assert html.get_content().rstrip() == "<b>the treasure is buried</b>"
    assert project.rows("bgtasks_mail") == project.rows() == []
    assert len(project.completed("failed_at IS NULL")) == 1
    assert not shows(everything(project) + said)
    assert shows(repr(envelope.content))


def test_a_refused_mail_is_tried_again_with_its_message_id_and_names_nobody(
    deploy: Deploy, server: Server
) -> None:
    project = mailing(deploy, server)
    post(project)
    server.answer_to_recipient = "550 5.1.1 <{}>: no such person"
    said = project.drain(**APP)
    (task,) = project.rows()
    assert "SMTPRecipientsRefused, 550 5.1.1 (recipients: 3), at " in task["last_error"]
    server.answer_to_recipient = "250 OK"
    server.answer = "451 4.3.0 Ottilie's box is full: Quarterly figures"
    project.hurry()
    said += project.drain(**APP)
    (task,) = project.rows()
    assert "SMTPDataError, 451 4.3.0, at " in task["last_error"]
    assert len(project.rows("bgtasks_mail")) == 1
    assert not shows(everything(project) + said)
    server.answer = "250 OK"
    project.hurry()
    said += project.drain(**APP)
    (_, first), (_, second) = server.next(), server.next()
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]
    assert project.rows("bgtasks_mail") == project.rows() == []
    assert [row["number"] for row in project.attempts()] == [1, 2]
    assert not shows(everything(project) + said)


def test_a_worker_killed_after_it_sent_sends_again_under_the_same_message_id(
    deploy: Deploy, server: Server
) -> None:
    project = mailing(deploy, server, BGTASKS_EMAIL_BACKEND=f"{BACKENDS}.Killed")
    post(project)
    project.drain(**APP)
    (_, first), (_, second) = server.next(), server.next()
    assert first["Message-ID"] == second["Message-ID"]
    assert server.mails.empty()
    assert [row["state"] for row in project.attempts()] == ["lost"]
    assert project.rows("bgtasks_mail") == project.rows() == []


def test_a_worker_reads_a_mail_that_was_stored_under_the_key_before(
    deploy: Deploy, server: Server
) -> None:
    project = mailing(deploy, server)
    post(project)
    project.settings["SECRET_KEY"] = "another"
    project.drain(**APP)
    (task,) = project.rows()
    assert re.search(r"UnreadableMail: Mail \d+ cannot be decrypted", task["last_error"])
    project.settings["SECRET_KEY_FALLBACKS"] = ["tests-only"]
    project.hurry()
    project.drain(**APP)
    assert server.next()[1]["Subject"] == "Quarterly figures"


MAILERS = {
    "default": {
        "BACKEND": "bgtasks.mail.BackgroundEmailBackend",
        "OPTIONS": {"mailer": "real"},
    },
    "lost": {"BACKEND": "bgtasks.mail.BackgroundEmailBackend"},
    "circular": {
        "BACKEND": "bgtasks.mail.BackgroundEmailBackend",
        "OPTIONS": {"mailer": "default"},
    },
}


if HAS_MAILERS:

    def test_with_mailers_the_mailer_that_is_named_sends(deploy: Deploy, server: Server) -> None:
        real = {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": {"host": "127.0.0.1", "port": server.port},
        }
        project = deploy(MAILERS={**MAILERS, "real": real})
        post(project)
        project.drain(**APP)
        assert server.next()[1]["Subject"] == "Quarterly figures"
        assert project.rows("bgtasks_mail") == []
        told = project.run(
            "from bgtasks.exceptions import InvalidMailSettings\n"
            "from django.core.mail import EmailMessage\n"
            "for name in ('lost', 'circular'):\n"
            "    try: EmailMessage('s', 'b', to=['a@example.com']).send(using=name)\n"
            "    except InvalidMailSettings as error: print(error)\n"
        )
        assert "names the mailer None to send by" in told
        assert "MAILERS['default'] is bgtasks.mail.BackgroundEmailBackend" in told
