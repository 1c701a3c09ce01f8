from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from bgtasks.models import Task
from tests.bgtasks.admin.helpers import fail


@pytest.fixture
def staff(django_user_model: Any) -> Any:
    """Makes the client of a staff member who has these of our permissions."""

    def make(*permissions: str, name: str = "clerk") -> Client:
        user = django_user_model.objects.create_user(name, is_staff=True)
        codenames = [f"{permission}_operations" for permission in permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        Task.objects.all().delete()  # that of the site, which mails to a new user
        Task.objects.all().delete()  # that of the site, which mails to a new user
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def operator(staff: Any) -> Client:
    """The client of somebody who may look and act."""
    client: Client = staff("view", "act", name="zoe")
    return client


@pytest.fixture
def failed() -> int:
    """The id of a task that has failed."""
    return fail(1)
