"""The email backend that stores mails, each with a row of the task that sends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError, transaction

from bgtasks.exceptions import MailOptionRefused, MailTooLarge
from bgtasks.logs import get_logger
from bgtasks.mail import sending
from bgtasks.mail.encryption import seal
from bgtasks.mail.mailers import check_settings
from bgtasks.queue import database, mails

logger = get_logger(__name__)


class BackgroundEmailBackend(BaseEmailBackend):
    """Stores mails, each with a row of the task that sends it.

    Args:
        fail_silently: whether mails that are too large, or that the database refuses, are logged
            and not counted, instead of an error raised. A send that fails later, in the worker,
            is never raised to the caller.
        mailer: the name of the entry of `MAILERS` that really sends, if the project has that
            setting.
        alias: the name of this backend's own entry of `MAILERS`. Django passes it from 6.1 on.
        options: any further options; they must be None.

    Raises:
        MailOptionRefused: an option is given that the worker would not have.
        InvalidMailSettings: the settings name no backend that really sends.
    """

    # `mailers.check_settings` recognises this class and its subclasses by this attribute.
    queues_mails = True

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
        options.pop("_ignore_unknown_kwargs", None)  # Django passes it for its own base class
        _refuse(sorted(name for name, value in options.items() if value is not None))
        check_settings(mailer)

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Queue mails: all or none, and only if the transaction around this call commits.

        With `fail_silently`, mails that are too large are left out and the others queued.

        Returns:
            How many were queued. Mails without any recipient are not.

        Raises:
            CryptographyMissing: the package that encrypts mails is not installed.
            UnstorableMail: a mail has an attribute that cannot be stored.
            MailTooLarge: a mail exceeds `BGTASKS_MAIL_MAX_SIZE` bytes; not with `fail_silently`.
            DatabaseError: the database refused them; not with `fail_silently`.
        """
        # Encrypted before the transaction begins, because on SQLite that blocks all other writers.
        messages = (message for message in email_messages if message.recipients())
        numbered = zip(mails.new_ids(), messages, strict=False)
        sealed = {mail_id: self._sealed(mail_id, message) for mail_id, message in numbered}
        bodies = {mail_id: body for mail_id, body in sealed.items() if body is not None}
        if not bodies:
            return 0
        try:
            with transaction.atomic(using=database.alias()):
                sending.send.map(mails.store(bodies))
        except DatabaseError:
            if not self.fail_silently:
                raise
            logger.exception("%d mail(s) lost: the database did not store them.", len(bodies))
            return 0
        return len(bodies)

    def _sealed(self, mail_id: int, message: EmailMessage) -> str | None:
        try:
            return seal(mail_id, message, self.mailer)
        except MailTooLarge as error:
            if not self.fail_silently:
                raise
            logger.error("%s This one is lost.", error)
            return None


def _refuse(names: Sequence[str]) -> None:
    if not names:
        return
    raise MailOptionRefused(
        f"A mail in the queue cannot take {', '.join(names)} along: the worker sends it by its "
        "settings, and no password may stand in the database. Set it in the settings (username is "
        "EMAIL_HOST_USER, password is EMAIL_HOST_PASSWORD; with MAILERS, OPTIONS of the mailer "
        "that really sends). Or send this mail at once, by a connection of the real backend."
    )
