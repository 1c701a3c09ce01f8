"""Tasks for the pages of the admin, and how a form of theirs is sent."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client

from bgtasks import background
from bgtasks.testing import run_pending

BASE = "/admin/bgtasks/operations/"


@background(name="tests.admin.raise", max_attempts=1)
def raises(*args: Any, **kwargs: Any) -> None:
    raise ValueError("in vain")


@background(name="tests.admin.add")
def add(a: int, b: int) -> int:
    return a + b


@background(name="tests.admin.once", unique=True, max_attempts=1)
def once(key: str) -> None:
    raise ValueError("in vain")


def fail(*args: Any, **options: Any) -> int:
    """A task that has failed; returns its id."""
    row = raises(*args, **options)
    run_pending(raise_failures=False)
    return int(row.pk)


def succeed() -> int:
    """A task that has succeeded; returns its id."""
    row = add(1, 2)
    run_pending()
    return int(row.pk)


def page(client: Client, path: str) -> str:
    """The text of a page that must be there."""
    response = client.get(BASE + path)
    assert response.status_code == 200, response.content.decode()
    return response.content.decode()


def ids_in(text: str) -> list[int]:
    """The ids of the tasks in a list, in its order."""
    return [int(pk) for pk in re.findall(r'name="id" value="(\d+)"', text)]


def choose(client: Client, action: str, *ids: int, **data: Any) -> Any:
    """The answer to an action on a selection, before it is confirmed."""
    return client.post(f"{BASE}tasks/act/", {"action": action, "id": ids, **data})


def signed(response: Any) -> str:
    """The signed text in a page that asks, or that goes on."""
    assert response.status_code == 200, response.content.decode()
    found = re.search(r'name="work" value="([^"]+)"', response.content.decode())
    assert found
    return found[1]


def do(client: Client, action: str, *ids: int, options: Any = (), **data: Any) -> Any:
    """Choose and confirm; the answer is the page where it leads."""
    work = signed(choose(client, action, *ids, **data))
    return client.post(f"{BASE}tasks/progress/", {"work": work, **dict(options)}, follow=True)


def told(response: Any) -> list[str]:
    """The messages of a page."""
    return [str(message) for message in response.context["messages"]]
