"""Which backend really sends a mail, by the settings of this moment."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import mail
from django.utils.module_loading import import_string

from bgtasks import conf
from bgtasks.exceptions import InvalidMailSettings


def mailers_setting() -> dict[str, Any] | None:
    """The setting that takes the place of EMAIL_BACKEND from Django 6.1 on."""
    found: dict[str, Any] | None = getattr(settings, "MAILERS", None)
    return found if hasattr(mail, "mailers") else None


def check_settings(mailer: str | None) -> None:
    mailers = mailers_setting()
    if mailers is None:
        _check_backend(conf.mail_backend(), "BGTASKS_EMAIL_BACKEND")
    elif mailer is None or mailer not in mailers:
        raise InvalidMailSettings(
            f"The mailer with bgtasks.mail.BackgroundEmailBackend names the mailer "
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
            f"{setting} is {path}, which would queue each mail again and again. Name the backend "
            "there that really sends."
        )


def real_backend(mailer: str | None) -> Any:
    """The real backend, as the settings of this moment have it.

    Raises:
        InvalidMailSettings
    """
    mailers = mailers_setting()
    if mailers is None:
        check_settings(None)
        # Deprecated since Django 6.1, as EMAIL_BACKEND itself is; there is no other way as yet.
        return mail.get_connection(conf.mail_backend())
    if mailer is None:  # it was queued before the project had MAILERS
        mailer = mailers.get("default", {}).get("OPTIONS", {}).get("mailer")
    check_settings(mailer)
    return mail.mailers[mailer]
