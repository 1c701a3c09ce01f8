"""Tasks that make statements, and leave something in their connection."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from bgtasks import background


def note(*words: object) -> None:
    with Path(settings.LEDGER).open("ab", buffering=0) as ledger:
        ledger.write((" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


@background
def query_much(key: object) -> None:
    for number in range(10):
        User.objects.filter(username=f"{key}-{number}").exists()


@background
def count_kept_statements() -> None:
    """Note how many statements all connections of this process keep."""
    kept: list[Any] = [each for each in gc.get_objects() if isinstance(each, BaseDatabaseWrapper)]
    note("kept", sum(len(each.queries_log) for each in kept))


@background
def leave_a_search_path() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO pg_catalog, public")


@background
def note_search_path() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        note("search_path", *cursor.fetchone())
