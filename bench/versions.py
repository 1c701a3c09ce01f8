"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime

import django
import psycopg

from tests import settings


def machine() -> str:
    """The date, what this runs on, and in which versions."""
    try:
        with psycopg.connect(settings.POSTGRES_URL, connect_timeout=3) as connection:
            number = connection.info.server_version
        postgresql = f"{number // 10000}.{number % 10000}"
    except psycopg.OperationalError:
        postgresql = "not here"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, Django "
        f"{django.__version__}, PostgreSQL {postgresql}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} cores"
    )
