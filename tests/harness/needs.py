"""What a machine may lack, and what is said of the tests that want it."""

from __future__ import annotations

import os
import shutil
from functools import cache

import psycopg
import pytest

from tests import settings

REQUIRE_ALL = os.environ.get("REQUIRE_ALL", "") not in ("", "0")


def missing(what: str) -> None:
    """Skip the test for want of ``what``; conftest makes it a failure with REQUIRE_ALL=1."""
    pytest.skip(f"needs {what}")


@cache
def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@cache
def postgresql_problem() -> str | None:
    try:
        psycopg.connect(settings.POSTGRES_URL, connect_timeout=3, autocommit=True).close()
    except psycopg.OperationalError as error:
        return f"PostgreSQL at TEST_POSTGRES_URL ({str(error).strip().splitlines()[0]})"
    return None
