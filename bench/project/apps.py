"""Counts SQL statements where ``STATEMENTS`` names a folder."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from functools import partial
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ProjectConfig(AppConfig):
    name = "bench.project"

    def ready(self) -> None:
        if folder := os.environ.get("STATEMENTS"):
            receiver = partial(trace, folder=folder)
            connection_created.connect(receiver, weak=False)


def trace(connection: Any, folder: str, **_: Any) -> None:
    """Have the database's own library write down what a new connection does, BEGIN included."""
    descriptor, _name = tempfile.mkstemp(dir=folder)
    if isinstance(connection.connection, sqlite3.Connection):
        connection.connection.set_trace_callback(partial(note, descriptor))
    else:
        connection.connection.pgconn.trace(descriptor)


def note(descriptor: int, statement: str) -> None:
    """Leave SQLite's statement as a line; what a trigger does comes as a comment."""
    if not statement.startswith("--"):
        os.write(descriptor, b" ".join(statement.encode().split())[:80] + b"\n")
