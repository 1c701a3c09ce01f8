"""procrastinate on PostgreSQL: a worker that runs one task at a time, as by default."""

from __future__ import annotations

from bench.systems.base import Peer
from bench.systems.tables import database, postgresql_problem, settle
from tests.harness.databases import Database


class Procrastinate(Peer):
    name = "procrastinate, PostgreSQL"
    package = "procrastinate"
    modules = ("procrastinate",)
    most = 1500
    application = "bench.apps.procrastinate_app"
    command = ("procrastinate", "--log-level", "warning", "--app", f"{application}.app", "worker")
    promise = (
        "Claim and outcome are recorded in the database; a killed worker's task stays 'doing' "
        "until a sweep of your own retries it."
    )
    database: Database | None = None

    def unavailable(self) -> str | None:
        return super().unavailable() or postgresql_problem()

    def own_environment(self) -> dict[str, str]:
        assert self.database
        return {"DATABASE_URL": self.database.url}

    def enqueue(self) -> None:
        self.database = database("postgresql", self.place)
        super().enqueue()
        settle(self.database)

    def clear(self) -> None:
        super().clear()
        if self.database:
            self.database.drop()
            self.database = None
