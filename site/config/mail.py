"""Turns ``EMAIL_URL`` into the settings for mail servers, in both forms that Django has had."""

from typing import Any

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
}


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
