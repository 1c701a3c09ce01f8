"""The backend that stores mails instead of sending them, each with a task that sends it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError, transaction

from bgtasks.exceptions import MailOptionRefused, MailTooLarge
from bgtasks.mail import sending
from bgtasks.mail.encryption import seal
from bgtasks.mail.mailers import check_settings
from bgtasks.queue import database, mails

logger = logging.getLogger(__name__)


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

    # By this the settings' check knows this class and its subclasses: see `mailers`.
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
        options.pop("_ignore_unknown_kwargs", None)  # from Django to its own base class
        _refuse(sorted(name for name, value in options.items() if value is not None))
        check_settings(mailer)

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
                sending.send.map(mails.store(bodies))
        except DatabaseError:
            if not self.fail_silently:
                raise
            logger.exception("Lost, for the database did not take them: %d mails.", len(bodies))
            return 0
        return len(bodies)

    def _sealed(self, message: EmailMessage) -> str | None:
        try:
            return seal(message, self.mailer)
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
