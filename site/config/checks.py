"""Checks for ``manage.py check``: they warn an operator of what visitors would notice first."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, staticfiles_storage
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection

LOCAL_HOSTS = {"", "localhost", "127.0.0.1", "::1"}


@register(Tags.files)
def local_files_beside_a_remote_database(**kwargs: Any) -> list[CheckMessage]:
    """If the database is on another host, the site may run on several hosts that share no disk."""
    host = str(connection.settings_dict.get("HOST") or "")
    remote = connection.vendor != "sqlite" and host not in LOCAL_HOSTS and host[0] != "/"
    if not (remote and isinstance(default_storage, FileSystemStorage)):
        return []
    return [
        CheckWarning(
            f"Uploads are stored on this machine's disk, and the database is on {host}.",
            hint="If web and worker run on different machines, the worker will not find the "
            "uploads. Set STORAGE_BACKEND and STORAGE_OPTIONS to a storage that both reach; "
            "see docs/operating/deploy.md. Silence this if they do share the disk.",
            id="site.W001",
        )
    ]


# The tag is not `staticfiles`: collectstatic runs the checks with that one, and would warn that the
# files which it is about to collect are not collected.
@register(Tags.files)
def static_files_not_collected(**kwargs: Any) -> list[CheckMessage]:
    """Without the manifest of static files, each page that has a stylesheet raises an error."""
    manifested = isinstance(staticfiles_storage, ManifestStaticFilesStorage)
    if not manifested or (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        return []
    return [
        CheckWarning(
            f"Static files are not collected in {settings.STATIC_ROOT}; pages will not render.",
            hint="Run `python manage.py collectstatic --noinput` as part of the build.",
            id="site.W002",
        )
    ]


@register(deploy=True)
def links_lead_nowhere(**kwargs: Any) -> list[CheckMessage]:
    """A worker sends the mails, and has no request from which it could take the site's address."""
    if settings.SITE_URL != "https://localhost":
        return []
    return [
        CheckWarning(
            "Links in mails lead to https://localhost.",
            hint="Set SITE_URL, for example https://www.example.com.",
            id="site.W004",
        )
    ]


@register(deploy=True)
def mail_server_not_named(**kwargs: Any) -> list[CheckMessage]:
    """Without a mail server, mails are tried again for days and then given up."""
    if settings.EMAIL_URL_SET:
        return []
    return [
        CheckWarning(
            "EMAIL_URL is not set: mail goes to port 25 of this machine.",
            hint="Set EMAIL_URL, for example smtp+tls://user:password@smtp.example.com:587.",
            id="site.W003",
        )
    ]
