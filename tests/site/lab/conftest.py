"""Who visits the lab."""

from __future__ import annotations

import pytest
from django.test import Client

from signup.models import User


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("staff", is_staff=True))
    return client
