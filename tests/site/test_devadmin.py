from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from signup.models import User
from tests.conftest import queued

pytestmark = pytest.mark.django_db


def devadmin() -> str:
    out = io.StringIO()
    call_command("devadmin", stdout=out)
    return out.getvalue()


def test_the_account_is_made_once_welcomes_nobody_and_can_log_in(
    client: Client, settings: Any
) -> None:
    settings.DEBUG = True
    assert "log in as admin, password admin" in devadmin()
    assert "log in as admin, password admin" in devadmin()
    assert queued() == []
    assert client.login(username="admin", password="admin")
    assert client.get("/admin/").status_code == 200


def test_a_password_of_your_own_is_kept_and_not_printed(settings: Any) -> None:
    settings.DEBUG = True
    devadmin()
    user = User.objects.get()
    user.set_password("quite-Long-99")
    user.save()
    assert "with the password that you gave it" in devadmin()
    user.refresh_from_db()
    assert user.check_password("quite-Long-99")


def test_in_production_it_is_refused() -> None:
    with pytest.raises(CommandError, match="createsuperuser"):
        devadmin()
    assert not User.objects.exists()
