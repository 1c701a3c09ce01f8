"""Who may see the lab, and what a request for a way must have with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from lab import access
from lab.models import Run
from signup.models import User
from tests.site.lab.helpers import press, set_up

pytestmark = pytest.mark.django_db


def test_staff_see_the_lab_in_production(staff: Client) -> None:
    page = staff.get("/lab/")
    assert page.status_code == 200
    assert "What waiting costs" in page.text


def test_strangers_are_sent_to_the_login(client: Client) -> None:
    page = client.get("/lab/")
    assert page.status_code == 302
    assert page["Location"].startswith("/login/")


def test_users_who_are_no_staff_are_refused(client: Client) -> None:
    client.force_login(User.objects.create_user("user"))
    for path in ("/lab/", "/lab/live/v1/", "/lab/runs/1/"):
        assert client.get(path).status_code == 403


def test_in_development_everybody_may_enter(client: Client, settings: Any) -> None:
    settings.DEBUG = True
    assert client.get("/lab/").status_code == 200


@pytest.mark.parametrize(
    "data",
    [{}, {"ticket": ""}, {"ticket": "WyJ2IiwiaHR0cCJd:1:forged"}],
    ids=["none", "empty", "forged"],
)
def test_nothing_runs_without_a_ticket(client: Client, data: dict[str, str]) -> None:
    set_up()
    answer = client.post("/lab/run/click/server/", data)
    assert answer.status_code == 403
    assert "Load the lab again" in answer.text
    assert not Run.objects.exists()


def test_a_ticket_grows_old(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up()
    monkeypatch.setattr(access, "TICKET_AGE", -1)
    answer = press(client)
    assert answer.status_code == 403
    # The page from which it comes shows the answer in its frame.
    assert "frame-ancestors 'self' http://testserver" in answer["Content-Security-Policy"]
    assert 'href="http://testserver/lab/"' in answer.text


def test_a_way_takes_no_data(client: Client) -> None:
    set_up()
    answer = client.post("/lab/run/click/server/", {"ticket": "x" * access.MAX_BYTES})
    assert answer.status_code == 413


def test_a_way_is_no_page(client: Client) -> None:
    assert client.get("/lab/run/click/server/").status_code == 405


@pytest.mark.parametrize("lost", [False, True], ids=["none", "lost"])
def test_without_its_servers_nothing_runs(client: Client, lost: bool) -> None:
    if lost:
        set_up(seen_at=timezone.now() - timedelta(minutes=1))
    assert press(client).status_code == 503


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("https://example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://127.0.0.1@example.com", False),
        ("", False),
    ],
)
def test_what_is_on_this_machine(url: str, here: bool) -> None:
    assert access.is_loopback(url) is here
