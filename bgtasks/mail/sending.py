"""The task that sends a stored mail by the real backend, and what may be said of a failure."""

from __future__ import annotations

import os
import re
import smtplib
import traceback
from pathlib import Path
from typing import Any

from bgtasks.exceptions import MailError, MailNotSent
from bgtasks.mail.encryption import unseal
from bgtasks.mail.mailers import real_backend
from bgtasks.queue import mails
from bgtasks.tasks.decorator import background


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
        message, mailer = unseal(mail_id, body)
        connection = real_backend(mailer)
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
