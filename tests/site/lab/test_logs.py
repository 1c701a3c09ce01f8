"""The log of the web server has no line for each request of the others."""

from __future__ import annotations

import logging

import pytest

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(("path", "logged"), [("/lab/light/", False), ("/lab/", True)])
def test_requests_of_the_others_are_not_logged(path: str, logged: bool) -> None:
    arguments = ("127.0.0.1:1", "GET", path, "1.1", 200)
    record = logging.LogRecord(
        "uvicorn.access", logging.INFO, __file__, 1, '%s - "%s %s HTTP/%s" %d', arguments, None
    )
    assert bool(logging.getLogger("uvicorn.access").filter(record)) is logged
