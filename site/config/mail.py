"""Turns ``EMAIL_URL`` into the settings for mail servers, in both forms that Django has had."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends import filebased
from django.utils import timezone

# Django 5.2's settings, and the names that Django 6.1's MAILERS has for them.
OPTIONS = {
    "EMAIL_HOST": "host",
    "EMAIL_PORT": "port",
    "EMAIL_HOST_USER": "username",
    "EMAIL_HOST_PASSWORD": "password",
    "EMAIL_USE_TLS": "use_tls",
    "EMAIL_USE_SSL": "use_ssl",
    "EMAIL_SSL_CERTFILE": "ssl_certfile",
    "EMAIL_SSL_KEYFILE": "ssl_keyfile",
    "EMAIL_TIMEOUT": "timeout",
    "EMAIL_FILE_PATH": "file_path",
}
# The options that each backend has.
TAKEN_BY = {
    "django.core.mail.backends.smtp.EmailBackend": set(OPTIONS.values()) - {"file_path"},
    "django.core.mail.backends.filebased.EmailBackend": {"file_path"},
    "config.mail.EmlBackend": {"file_path"},
}


class EmlBackend(filebased.EmailBackend):
    """Writes each mail into a file of its own, as mail programs open it, for development."""

    def send_messages(self, messages: Any) -> int:
        return sum(self._write(message) for message in messages)

    def _write(self, message: EmailMessage) -> bool:
        if not message.recipients():
            return False
        # The time comes first, so that the files are listed in the order of the mails.
        name = f"{timezone.localtime():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(2)}.eml"
        with Path(self.file_path, name).open("xb") as file:
            file.write(message.message().as_bytes())
        return True


def mailers(email: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The ``MAILERS`` setting (Django 6.1) for what django-environ reads as ``EMAIL_*``.

    Each backend refuses options that are not its own, so only those are passed on.
    """
    backend = email["EMAIL_BACKEND"]
    taken = TAKEN_BY.get(backend, set())
    options = {
        name: email[setting]
        for setting, name in OPTIONS.items()
        if name in taken and email.get(setting) is not None
    }
    return {"default": {"BACKEND": backend, "OPTIONS": options}}
