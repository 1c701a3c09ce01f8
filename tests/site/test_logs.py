from __future__ import annotations

import logging
from typing import Any

import pytest

from config.logs import SERVERS, MaskedSecrets

pytestmark = pytest.mark.any_database

LINK = "/password/reset/MQ/d3zk1x-0123456789abcdef/"


def logged(message: Any, *args: Any) -> str:
    record = logging.LogRecord("any", logging.INFO, "", 0, message, args, None)
    assert MaskedSecrets().filter(record)
    return record.getMessage()


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ('%s - "%s %s HTTP/%s" %d', ("1.1.1.1:5", "GET", LINK, "1.1", 302)),  # uvicorn
        ('"%s" %s %s', (f"GET {LINK} HTTP/1.1", "302", "0")),  # Django's runserver
        ('%(h)s "%(r)s"', ({"h": "1.1.1.1", "r": f"GET {LINK}?a=1 HTTP/1.1"},)),  # gunicorn
        ("Not Found: %s", (LINK[:-1],)),  # Django, of a link that lost its last character
        (f"Internal Server Error: {LINK}", ()),
        ("See %s", (f"https://example.com{LINK}",)),
    ],
)
def test_the_token_of_a_link_is_masked_in_every_servers_line(message: str, args: Any) -> None:
    line = logged(message, *args)
    assert "/password/reset/MQ/***" in line
    assert "0123456789abcdef" not in line


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("GET /password/reset/MQ/set-password/", ()),
        ("GET /password/reset/sent/ and /password/reset/", ()),
        ("%d of %s", (1, ["a list"])),
        (ValueError("no text"), ()),
    ],
)
def test_all_else_is_logged_as_it_is(message: Any, args: Any) -> None:
    assert logged(message, *args) == (str(message) % args if args else str(message))


class Atoms(dict):  # type: ignore[type-arg]
    """What gunicorn formats its line of access with: names that are missing are "-"."""

    def __init__(self, atoms: dict[str, Any]) -> None:
        super().__init__(atoms)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name) if name in self else "-"


def test_a_servers_own_kind_of_arguments_stays_what_it_is() -> None:
    atoms = Atoms({"r": f"GET {LINK} HTTP/1.1"})
    assert logged('"%(r)s" %({x-request-id}i)s', atoms).endswith('/MQ/***/ HTTP/1.1" -')
    assert atoms["r"] == f"GET {LINK} HTTP/1.1"


@pytest.mark.parametrize("name", SERVERS)
def test_servers_loggers_are_masked(name: str) -> None:
    filters = logging.getLogger(name).filters
    assert any(isinstance(each, MaskedSecrets) for each in filters)
