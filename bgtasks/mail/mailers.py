"""Finds in the settings the backend that really sends the mails that `bgtasks.mail` has queued."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import mail
from django.utils.module_loading import import_string

from bgtasks import conf
from bgtasks.exceptions import InvalidMailSettings


def mailers_setting() -> dict[str, Any] | None:
    """The setting that replaces EMAIL_BACKEND from Django 6.1 on; None if it is not used here."""
    found: dict[str, Any] | None = getattr(settings, "MAILERS", None)
    return found if hasattr(mail, "mailers") else None


def check_settings(mailer: str | None) -> None:
    """Check that the settings name a backend that can be imported and that really sends.

    Args:
        mailer: the name of the entry of `MAILERS` to send by; None without that setting.

    Raises:
        InvalidMailSettings
    """
    mailers = mailers_setting()
    if mailers is None:
        _check_backend(conf.mail_backend(), "BGTASKS_EMAIL_BACKEND")
    elif mailer is None or mailer not in mailers:
        raise InvalidMailSettings(
            "The entry of MAILERS with bgtasks.mail.BackgroundEmailBackend names the mailer "
            f"{mailer!r} to send by. Name one of MAILERS "
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
    if getattr(found, "queues_mails", False):
        raise InvalidMailSettings(
            f"{setting} is {path}, which would queue each mail again and again. Name there a "
            "backend that really sends."
        )


def real_backend(mailer: str | None) -> Any:
    """An instance of the backend that really sends, by the settings as they are now.

    Args:
        mailer: the name of the entry of `MAILERS` that the mail was queued with, or None.

    Raises:
        InvalidMailSettings: the settings name no backend that really sends.
    """
    mailers = mailers_setting()
    if mailers is None:
        check_settings(None)
        # Deprecated since Django 6.1, as EMAIL_BACKEND itself is. Without MAILERS there is no
        # other way to make a backend from its path.
        return mail.get_connection(conf.mail_backend())
    if mailer is None:  # the mail was queued before the project had the setting MAILERS
        mailer = mailers.get("default", {}).get("OPTIONS", {}).get("mailer")
    check_settings(mailer)
    return mail.mailers[mailer]
