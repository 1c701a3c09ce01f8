"""A database of its own for a test, of the kind under test."""

from __future__ import annotations

import atexit
import secrets
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.rows import dict_row

from tests import settings
from tests.harness.spares import Spares

IDLE_IN_TRANSACTION = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
)


class Server:
    """PostgreSQL, by a connection that stays open: to open one for each poll costs it a process.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def execute(self, sql: str) -> list[dict[str, Any]]:
        try:
            return self._execute(sql)
        except psycopg.OperationalError:
            if self._connection and self._connection.closed:  # the server had ended it
                return self._execute(sql)
            raise

    def _execute(self, sql: str) -> list[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, row_factory=dict_row, autocommit=True)
        cursor = self._connection.execute(sql)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        if self._connection:
            self._connection.close()


# For what is done to whole databases.
_server = Server(settings.POSTGRES_URL)
atexit.register(_server.close)


class Database:
    """A database that one test alone uses, until it is released.

    Args:
        folder: where the file of an SQLite database goes.
        template: a database of which this one is a copy.
    """

    def __init__(self, folder: Path, template: Database | None = None) -> None:
        self.on_postgresql = settings.DATABASE == "postgresql"
        self._spares: Spares | None = None
        self.name = f"bgtasks_test_{secrets.token_hex(6)}"
        if self.on_postgresql:
            self.url = urlunsplit(urlsplit(settings.POSTGRES_URL)._replace(path=f"/{self.name}"))
            self._server = Server(self.url)
            self._make(template)
        else:
            self.path = folder / f"{self.name}.sqlite3"
            self.url = f"sqlite:///{self.path}"
            if template:
                shutil.copy(template.path, self.path)

    def _make(self, template: Database | None) -> None:
        self._template = template
        if template is None:
            self.administer(f'CREATE DATABASE "{self.name}"')
        elif spare := template.spares().take():
            self.administer(f'ALTER DATABASE "{spare}" RENAME TO "{self.name}"')
        else:
            self.administer(f'CREATE DATABASE "{self.name}" TEMPLATE "{template.name}"')

    def spares(self) -> Spares:
        """Copies of this database, on PostgreSQL, that have served their test."""
        if self._spares is None:
            self._spares = Spares(settings.POSTGRES_URL, self.name)
        return self._spares

    def administer(self, statement: str) -> None:
        """Execute what can only be done from outside of this database."""
        _server.execute(statement)

    def query(self, sql: str) -> list[dict[str, Any]]:
        if self.on_postgresql:
            return self._server.execute(sql)
        with closing(sqlite3.connect(self.path, timeout=20, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    def is_locked(self) -> bool:
        """Whether somebody is in the middle of a write that may keep others from writing."""
        if self.on_postgresql:
            return bool(self.query(IDLE_IN_TRANSACTION))
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    def release(self) -> None:
        """Have no more use for it: it is emptied for another test, or dropped."""
        if self.on_postgresql:
            self._server.close()
            if not (self._template and self._template.spares().give(self.name)):
                self.drop()

    def drop(self) -> None:
        if self.on_postgresql:
            self._server.close()
            for name in (self.name, *(self._spares.all() if self._spares else ())):
                self.administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
