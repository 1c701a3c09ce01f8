"""bgtasks: one ``process_tasks`` with no options but to stop when nothing is left."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import ClassVar

from bench.apps import listening
from bench.systems.base import Drained
from bench.systems.tables import Tables

RECORDING = 120.0  # seconds that may pass between the last execution and the worker's end


class Ours(Tables):
    """Measured from the first execution until every outcome stands in the database."""

    package = "django-background-tasks"
    command = ("django", "process_tasks", "--drain")
    promise = (
        "At least once: a killed worker's task runs again, a late finish is fenced off, and "
        "every outcome is recorded in the database."
    )

    def version(self) -> str:
        from bgtasks import __version__

        return __version__

    def drain(self) -> Drained:
        worker = self.start()
        self.await_executions(worker)
        if code := worker.wait(RECORDING):
            raise RuntimeError(f"its worker ended with {code}: {self.last_words()}")
        self.account()
        ran = self.ledger.read(self.tasks)
        seconds = max(ran.last, self.last_outcome()) - ran.first
        return Drained(self.tasks, (self.tasks - 1) / seconds, ran.duplicates)

    def count(self, table: str) -> int:
        assert self.deployment
        (row,) = self.deployment.database.query(f"SELECT count(*) AS number FROM {table}")
        return int(row["number"])

    def account(self) -> None:
        """Every task has an outcome and a completed row, and none is left."""
        expected = {
            "bgtasks_outcome WHERE state = 'succeeded'": self.tasks,
            "background_task_completedtask": self.tasks,
            "background_task": 0,
        }
        for table, number in expected.items():
            assert (found := self.count(table)) == number, f"{found} in {table}, not {number}"

    def last_outcome(self) -> float:
        """When the last outcome was recorded, as ``time.monotonic()`` counts, in seconds."""
        assert self.deployment
        (row,) = self.deployment.database.query(
            "SELECT max(finished_at) AS at FROM bgtasks_outcome"
        )
        at = row["at"] if isinstance(row["at"], datetime) else datetime.fromisoformat(row["at"])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return at.timestamp() - time.time() + time.monotonic()


class OnPostgreSQL(Ours):
    name = "bgtasks, PostgreSQL"
    kind = "postgresql"
    limit = "plain SQL, PostgreSQL"


class OnSQLite(Ours):
    name = "bgtasks, SQLite"
    kind = "sqlite"
    limit = "plain SQL, SQLite"


class Listened(Ours):
    """The same with a receiver of ``post_save`` for all models."""

    more: ClassVar[str] = "bench.apps.noop,bench.apps.listening.Listening"
    promise = "The same; the receiver is called for every completed row."

    def own_environment(self) -> dict[str, str]:
        return {**super().own_environment(), listening.VARIABLE: str(self.place / "heard")}

    def account(self) -> None:
        super().account()
        heard = (self.place / "heard").stat().st_size
        assert heard == self.tasks, f"the receiver heard {heard} of {self.tasks}"


class ListenedOnPostgreSQL(Listened):
    name = "bgtasks with a receiver, PostgreSQL"
    kind = "postgresql"
    limit = "plain SQL, PostgreSQL"


class ListenedOnSQLite(Listened):
    name = "bgtasks with a receiver, SQLite"
    kind = "sqlite"
    limit = "plain SQL, SQLite"
