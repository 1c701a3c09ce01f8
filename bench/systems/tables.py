"""Systems on the tables of django-background-tasks, in a database of their own each round."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import psycopg

from bench.systems.base import Peer, run
from tests import settings
from tests.harness.databases import Database
from tests.harness.deployment import Deployment


def postgresql_problem() -> str | None:
    """Why PostgreSQL cannot be used, or None."""
    try:
        psycopg.connect(settings.POSTGRES_URL, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        return f"PostgreSQL: {str(error).strip().splitlines()[0]}"
    return None


def database(kind: str, folder: Path, template: Database | None = None) -> Database:
    """A new database, empty or a copy."""
    settings.DATABASE = kind
    return Database(folder, template)


def settle(database: Database) -> None:
    """What autovacuum would do to a table that was just filled, done before the clock runs."""
    if database.on_postgresql:
        database.query("VACUUM ANALYZE")


class Tables(Peer):
    """Fills ``background_task``.

    Attributes:
        kind: "postgresql" or "sqlite".
        engine: the apps of the engine, whose migrations make the tables.
        more: settings of the project's environment.
    """

    kind: ClassVar[str]
    engine: ClassVar[str] = "bgtasks,background_task"
    more: ClassVar[str] = "bench.apps.noop"
    application = "bench.apps.rows"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.template: Database | None = None
        self.deployment: Deployment | None = None

    def unavailable(self) -> str | None:
        problem = postgresql_problem() if self.kind == "postgresql" else None
        return super().unavailable() or problem

    def own_environment(self) -> dict[str, str]:
        assert self.deployment
        return {
            **self.deployment.environment(),
            "ENGINE_APPS": self.engine,
            "MORE_APPS": self.more,
            # A project that sets no LOGGING shows no more than this either.
            "LOG_LEVEL": "WARNING",
        }

    def migrated(self) -> Database:
        if self.template is None:
            self.template = database(self.kind, self.folder)
            self.deployment = Deployment(self.folder, self.template)
            migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
            run(migrate, self.environment())
        return self.template

    def enqueue(self) -> None:
        copy = database(self.kind, self.place, self.migrated())
        self.deployment = Deployment(self.place, copy)
        super().enqueue()
        settle(copy)

    def clear(self) -> None:
        deployment, self.deployment = self.deployment, None
        super().clear()  # first the workers, then what they are connected to
        if deployment and deployment.database is not self.template:
            deployment.close()

    def close(self) -> None:
        super().close()
        if self.template:
            self.template.drop()
