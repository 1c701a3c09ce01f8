"""The site's pages on a development machine: they say it if nobody works."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from bgtasks.operations import unserved
from signup.tasks import discard_files

pytestmark = pytest.mark.django_db
COMMAND = f"Start `{unserved.COMMAND}`"


@pytest.fixture(autouse=True)
def waiting(db: None) -> None:
    discard_files(["a"], schedule=timezone.now() - timedelta(minutes=1))


def test_with_debug_the_pages_name_the_command_that_starts_a_worker(
    client: Client, settings: Any
) -> None:
    settings.DEBUG = True
    page = client.get("/").content.decode()
    assert "no worker runs" in page
    assert COMMAND in page


def test_visitors_of_a_real_site_do_not_see_it(client: Client) -> None:
    assert COMMAND not in client.get("/").content.decode()
