"""What the tests of the lab share: a stage without servers, tickets, and runs that are over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.utils import timezone

from lab.access import Ticket
from lab.models import Run, Stage


def set_up(**given: Any) -> Stage:
    """A stage that is ready, although no server runs."""
    now = timezone.now()
    defaults = {
        "owner": "tests",
        "site_url": "http://127.0.0.1:1",
        "wsgi_url": "http://127.0.0.1:2",
        "api_url": "http://127.0.0.1:3",
        "smtp_port": 4,
        "folder": "/nowhere",
        "seen_at": now,
        "watched_until": now - timedelta(seconds=1),
    }
    return Stage.objects.create(pk=1, **(defaults | given))


def press(client: Client, way: str = "click/script", visit: str = "v1") -> HttpResponse:
    """Press the button of a way."""
    return client.post(f"/lab/run/{way}/", {"ticket": ticket(visit)})


async def press_async(client: AsyncClient, way: str) -> HttpResponse:
    return await client.post(f"/lab/run/{way}/", {"ticket": ticket("v1")})


def ticket(visit: str) -> str:
    return Ticket(visit, "http://testserver").signed()


def over(
    pattern: str,
    way: str,
    problem: str = "",
    samples: Any = None,
    server: str = "ASGI",
    **figures: float,
) -> Run:
    """A run that has ended, with figures by their names."""
    browser = {name: value for name, value in figures.items() if name in ("TTFB", "LCP", "INP")}
    others = {name: value for name, value in figures.items() if name not in browser}
    return Run.objects.create(
        pattern=pattern, way=way, server=server, visit="v", active=None,
        browser=browser, others=others, samples=samples or {}, problem=problem,
    )  # fmt: skip
