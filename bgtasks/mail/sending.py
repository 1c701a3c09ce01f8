"""The task that sends a stored mail by the real backend.

The error of a failed send names no recipient and quotes nothing of the mail, for it is stored with
the row, shown in the admin and logged.
"""

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
    """Send a stored mail, and delete it.

    Returns:
        "sent", or a sentence that says why there was nothing to send.

    Raises:
        MailNotSent: the real backend failed.
        UnreadableMail: no key decrypts the mail.
        CryptographyMissing: the package that decrypts mails is not installed.
        InvalidMailSettings: the settings name no backend that really sends.
    """
    body = mails.body(mail_id)
    if body is None:
        return f"Nothing to do: mail {mail_id} was sent by an earlier run, or deleted."
    problem = _try_to_send(mail_id, body)
    if problem:
        # It is raised here because error trackers collect the variables of a traceback's frames:
        # no variable of this frame holds the decrypted mail.
        raise problem
    # If the worker is killed before this line, the mail is sent again, with the same Message-ID.
    mails.remove(mail_id)
    return "sent"


def _try_to_send(mail_id: int, body: str) -> MailError | None:
    """Send a mail. Returns None, or an error whose text may be stored and shown."""
    try:
        message, mailer = unseal(mail_id, body)
        connection = real_backend(mailer)
    except MailError as error:
        return error.with_traceback(None)
    except Exception as error:
        return MailNotSent(f"Mail {mail_id} cannot be sent: {_harmless(error)}.")
    try:
        if connection.send_messages([message]) != 0:  # many backends return None for a success
            return None
    except Exception as error:
        text = f"Mail {mail_id} was not sent by {_name(connection)}: {_harmless(error)}."
        if _errno(error):
            return MailNotSent(f"{text} Is the mail server there, and does it run?")
        return MailNotSent(
            f"{text} Its words are withheld, for they may name recipients; look for them in the "
            "mail server's log."
        )
    return MailNotSent(
        f"Mail {mail_id} was not sent by {_name(connection)}: it says that it sent none, and does "
        "not say why. Configure it so that it raises its errors."
    )


def _name(connection: Any) -> str:
    """The path of a backend's class, and the server that it sends to, if it has one."""
    name = f"{type(connection).__module__}.{type(connection).__qualname__}"
    host, port = getattr(connection, "host", None), getattr(connection, "port", None)
    return f"{name} ({host}:{port})" if host and port else name


def _harmless(error: Exception) -> str:
    """A description of an error without its text: its class, its codes, and where it was raised.

    The text may hold what must not be shown: mail servers answer with the address that they
    refuse, and Python's errors quote values.
    """
    try:
        details = [detail for detail in (_answer(error), _errno(error)) if detail]
    except Exception:  # other code than smtplib's may fill such an error with anything
        details = []
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    place = " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__}{''.join(f', {detail}' for detail in details)}, at {place}"


def _answer(error: Exception) -> str:
    """The codes of a mail server's answer, such as "550 5.1.1" (RFC 5321, RFC 3463); else ""."""
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
    """The number of an error of the operating system, and what it means; else "".

    The meaning comes from `os.strerror`, not from the error's own text.
    """
    if not isinstance(error, OSError) or isinstance(error, smtplib.SMTPException):
        return ""
    number = error.errno
    return f"{os.strerror(number)} ({number})" if isinstance(number, int) and number > 0 else ""
