from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError

USERNAME = "admin"
PASSWORD = "admin"  # noqa: S105  refused unless DEBUG is on


class Command(BaseCommand):
    help = "Make an admin account for development, and print where to look and how to log in."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "devadmin makes an account with a known password, so it runs only with DEBUG=1. "
                "In production use `manage.py createsuperuser`."
            )
        url = settings.SITE_URL
        self.stdout.write(
            "\n"
            f"  Site    {url}/\n"
            f"  Admin   {url}/admin/   log in as {ensure_admin()}\n"
            f"  Lab     {url}/lab/   what waiting costs, measured\n"
            f"  Mail    {settings.VAR_DIR / 'mail'}/   each mail is a file there\n"
            "  Stop    Ctrl-C\n"
        )


def ensure_admin() -> str:
    """Make the account if it is missing. Returns how to log in with it."""
    users = get_user_model()._default_manager
    user = users.filter(username=USERNAME).first()
    if user is None:
        # bulk_create sends no signals, so that no welcome mail is queued.
        users.bulk_create(
            [
                users.model(
                    username=USERNAME,
                    email="admin@localhost",
                    password=make_password(PASSWORD),
                    is_staff=True,
                    is_superuser=True,
                )
            ]
        )
    elif not user.check_password(PASSWORD):
        return f"{USERNAME}, with the password that you gave it"
    return f"{USERNAME}, password {PASSWORD}"
