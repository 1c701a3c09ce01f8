"""Every mail through the queue: ``EMAIL_BACKEND = "bgtasks.mail.BackgroundEmailBackend"``.

A mail is stored encrypted, in the caller's transaction, together with a task that has nothing
but its id. The worker sends it by the backend that `BGTASKS_EMAIL_BACKEND` names.
"""

from __future__ import annotations

import logging
import os
import re
import smtplib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError, transaction
from django.utils.module_loading import import_string

from bgtasks import conf, envelopes
from bgtasks.exceptions import (
    InvalidMailSettings,
    MailError,
    MailNotSent,
    MailOptionRefused,
    MailTooLarge,
)
from bgtasks.queue import database, mails
from bgtasks.tasks import background

logger = logging.getLogger(__name__)

OURS = "bgtasks.mail.BackgroundEmailBackend"


class BackgroundEmailBackend(BaseEmailBackend):
    """Stores mails, each with a task that sends it.

    Args:
        fail_silently: mails that are too large, or that the database does not take, are logged
            and not counted. Of a send that fails later the caller hears nothing in any case.
        mailer: the entry of `MAILERS` that really sends, where the project has that setting.
        alias: this one's own entry there.
        options: refused, unless they say nothing.

    Raises:
        MailOptionRefused
        InvalidMailSettings: there is nothing to send by, or it is this backend again.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        mailer: str | None = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        if alias is None:  # Django before 6.1 has no such argument
            super().__init__()
        else:
            super().__init__(alias=alias)
        self.fail_silently = fail_silently
        self.mailer = mailer
        options.pop("_ignore_unknown_kwargs", None)  # from Django to its own base class
        _refuse(sorted(name for name, value in options.items() if value is not None))
        _check_settings(mailer)

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Queue mails: all or none, and only if the transaction around them commits.

        Returns:
            How many were accepted. Those without any recipient are not.

        Raises:
            CryptographyMissing, UnstorableMail, MailTooLarge
        """
        # Before the transaction, which on SQLite keeps all other writers out.
        sealed = [self._sealed(message) for message in email_messages if message.recipients()]
        bodies = [body for body in sealed if body is not None]
        if not bodies:
            return 0
        try:
            with transaction.atomic(using=database.alias()):
                send.map(mails.store(bodies))
        except DatabaseError:
            if not self.fail_silently:
                raise
            logger.exception("Lost, for the database did not take them: %d mails.", len(bodies))
            return 0
        return len(bodies)

    def _sealed(self, message: EmailMessage) -> str | None:
        try:
            return envelopes.seal(message, self.mailer)
        except MailTooLarge as error:
            if not self.fail_silently:
                raise
            logger.error("%s This one is lost.", error)
            return None


def _refuse(names: Sequence[str]) -> None:
    if not names:
        return
    raise MailOptionRefused(
        f"A mail in the queue cannot take {', '.join(names)} along: the worker sends it by the "
        "settings, and no password is to stand in the database. Set it there (username is "
        "EMAIL_HOST_USER, password is EMAIL_HOST_PASSWORD; with MAILERS, OPTIONS of the mailer "
        "that really sends). Or send this mail at once, by a connection of the real backend."
    )


def _mailers() -> dict[str, Any] | None:
    """The setting that takes the place of EMAIL_BACKEND from Django 6.1 on."""
    found: dict[str, Any] | None = getattr(settings, "MAILERS", None)
    return found if hasattr(mail, "mailers") else None


def _check_settings(mailer: str | None) -> None:
    mailers = _mailers()
    if mailers is None:
        _check_backend(conf.mail_backend(), "BGTASKS_EMAIL_BACKEND")
    elif mailer is None or mailer not in mailers:
        raise InvalidMailSettings(
            f"The mailer with {OURS} names the mailer {mailer!r} to send by. Name one of MAILERS "
            'that really sends, for example "OPTIONS": {"mailer": "smtp"}. MAILERS has '
            f"{', '.join(mailers)}."
        )
    else:
        _check_backend(mailers[mailer].get("BACKEND", conf.MAIL_BACKEND), f"MAILERS[{mailer!r}]")


def _check_backend(path: str, setting: str) -> None:
    try:
        found = import_string(path)
    except ImportError as error:
        raise InvalidMailSettings(
            f"{setting} is {path}, which cannot be imported: {error}. Correct the path, or install "
            "the package."
        ) from error
    if isinstance(found, type) and issubclass(found, BackgroundEmailBackend):
        raise InvalidMailSettings(
            f"{setting} is {path}, which would queue each mail again and again. Name the backend "
            "there that really sends."
        )


@background(name=mails.TASK)
def send(mail_id: int) -> str:
    """Send a stored mail, and forget it.

    Returns:
        What was done, in words.

    Raises:
        MailNotSent, UnreadableMail, CryptographyMissing, InvalidMailSettings
    """
    body = mails.body(mail_id)
    if body is None:
        return f"Nothing to do: mail {mail_id} was sent by an earlier run, or deleted."
    problem = _try_to_send(mail_id, body)
    if problem:
        # Raised out here, where nothing in this frame or below it knows more than it says. Error
        # trackers collect the variables of frames.
        raise problem
    # A worker that is killed before this line sends the mail again, under the same Message-ID.
    mails.remove(mail_id)
    return "sent"


def _try_to_send(mail_id: int, body: str) -> MailError | None:
    """Send it; returns what went wrong, in words that may be kept and shown."""
    try:
        message, mailer = envelopes.unseal(mail_id, body)
        connection = _connection(mailer)
    except MailError as error:
        return error.with_traceback(None)
    except Exception as error:
        return MailNotSent(f"Mail {mail_id} cannot be sent: {_told(error)}.")
    try:
        if connection.send_messages([message]) != 0:  # many backends return nothing
            return None
    except Exception as error:
        text = f"Mail {mail_id} was not sent by {_name(connection)}: {_told(error)}."
        if _errno(error):
            return MailNotSent(f"{text} Is the mail server there, and does it run?")
        return MailNotSent(
            f"{text} Its words are withheld, for they may name recipients; look for them in the "
            "mail server's log."
        )
    return MailNotSent(
        f"Mail {mail_id} was not sent by {_name(connection)}: it says that it sent none, and not "
        "why. Have it raise its errors."
    )


def _connection(mailer: str | None) -> Any:
    """The real backend, as the settings of this moment have it.

    Raises:
        InvalidMailSettings
    """
    mailers = _mailers()
    if mailers is None:
        _check_settings(None)
        # Deprecated since Django 6.1, as EMAIL_BACKEND itself is; there is no other way as yet.
        return mail.get_connection(conf.mail_backend())
    if mailer is None:  # it was queued before the project had MAILERS
        mailer = mailers.get("default", {}).get("OPTIONS", {}).get("mailer")
    _check_settings(mailer)
    return mail.mailers[mailer]


def _name(connection: Any) -> str:
    """The backend, and the server that it was to reach, if it has one."""
    name = f"{type(connection).__module__}.{type(connection).__qualname__}"
    host, port = getattr(connection, "host", None), getattr(connection, "port", None)
    return f"{name} ({host}:{port})" if host and port else name


def _told(error: Exception) -> str:
    """What may be said of an error: its class, codes, and where it was raised.

    Its text may not. Mail servers answer with the address that they refuse, and Python's errors
    quote values.
    """
    try:
        details = [detail for detail in (_answer(error), _errno(error)) if detail]
    except Exception:  # a backend of somebody's own fills them in otherwise
        details = []
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    place = " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__}{''.join(f', {detail}' for detail in details)}, at {place}"


def _answer(error: Exception) -> str:
    """The codes of a mail server's answer, such as 550 5.1.1."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        answers = [_codes(*answer) for answer in error.recipients.values()]
        return f"{', '.join(dict.fromkeys(answers))} (recipients: {len(answers)})"
    if isinstance(error, smtplib.SMTPResponseException):
        return _codes(error.smtp_code, error.smtp_error)
    return ""


def _codes(code: Any, text: Any) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    enhanced = re.match(r"[245]\.\d{1,3}\.\d{1,3}\b", words, re.ASCII)
    return f"{int(code)} {enhanced[0]}" if enhanced else f"{int(code)}"


def _errno(error: Exception) -> str:
    """What the operating system says: its own words for the number, not the error's."""
    if not isinstance(error, OSError) or isinstance(error, smtplib.SMTPException):
        return ""
    number = error.errno
    return f"{os.strerror(number)} ({number})" if isinstance(number, int) and number > 0 else ""
