"""How fast our tables can be: bare statements, a hundred rows at a time, no task is run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import psycopg

from bench.systems.base import Drained
from bench.systems.tables import Tables

BATCH = 100
COPIED = (
    "task_name, task_params, task_hash, verbose_name, priority, repeat, repeat_until, queue, "
    "attempts, locked_by, locked_at, creator_content_type_id, creator_object_id"
)
READY = (
    "SELECT id FROM background_task WHERE locked_by IS NULL AND failed_at IS NULL "
    "AND run_at <= {now} ORDER BY priority DESC, run_at, id LIMIT 100"
)
TAKEN = "background_task.id, task_name, task_params, attempts"
COMPLETED = f"background_task_completedtask (id, run_at, last_error, {COPIED})"
OUTCOME = "bgtasks_outcome (task_id, completed_id, state, attempts, finished_at)"


class Limit(Tables):
    command = ()
    promise = "None: it claims and finishes rows, and runs nothing."

    def version(self) -> str:
        return "–"

    def timed(self, claim: Callable[[str], int], finish: Callable[[str], None]) -> Drained:
        """Claim and finish until nothing is left."""
        started, batch, done = time.perf_counter(), 0, 0
        while taken := claim(f"limit-{batch}"):
            finish(f"limit-{batch}")
            batch, done = batch + 1, done + taken
        seconds = time.perf_counter() - started
        assert done == self.tasks, f"{done} of {self.tasks} rows"
        self.account()
        return Drained(self.tasks, self.tasks / seconds)

    def account(self) -> None:
        assert self.deployment
        for table in ("bgtasks_outcome", "background_task_completedtask"):
            sql = f"SELECT count(*) AS number FROM {table}"
            (row,) = self.deployment.database.query(sql)
            assert row["number"] == self.tasks, f"{row['number']} rows in {table}"


class OnPostgreSQL(Limit):
    name = "plain SQL, PostgreSQL"
    kind = "postgresql"

    CLAIM = (
        f"WITH ready AS MATERIALIZED ({READY.format(now='now()')} FOR UPDATE SKIP LOCKED) "
        "UPDATE background_task SET locked_by = %s, locked_at = now(), attempts = attempts + 1 "
        f"FROM ready WHERE background_task.id = ready.id RETURNING {TAKEN}"
    )
    FINISH = (
        "WITH gone AS (DELETE FROM background_task WHERE id = ANY(%s::bigint[]) "
        "AND locked_by = %s RETURNING *), "
        "numbered AS (SELECT nextval('background_task_completedtask_id_seq') AS completed_id, * "
        "FROM gone), "
        f"copied AS (INSERT INTO {COMPLETED} "
        f"SELECT completed_id, now(), '', {COPIED} FROM numbered) "
        f"INSERT INTO {OUTCOME} SELECT id, completed_id, 'succeeded', attempts, now() FROM numbered"
    )

    def drain(self) -> Drained:
        assert self.deployment
        ids: list[int] = []

        with psycopg.connect(self.deployment.database.url, autocommit=True) as connection:

            def claim(token: str) -> int:
                ids[:] = [row[0] for row in connection.execute(self.CLAIM, [token]).fetchall()]
                return len(ids)

            def finish(token: str) -> None:
                connection.execute(self.FINISH, [ids, token])

            return self.timed(claim, finish)


class OnSQLite(Limit):
    name = "plain SQL, SQLite"
    kind = "sqlite"

    NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    CLAIM = (
        f"UPDATE background_task SET locked_by = ?, locked_at = {NOW}, attempts = attempts + 1 "
        f"WHERE id IN ({READY.format(now=NOW)}) RETURNING {TAKEN}"
    )
    LAST = "SELECT seq FROM sqlite_sequence WHERE name = 'background_task_completedtask'"
    COPY = (
        f"INSERT INTO {COMPLETED} SELECT ? + row_number() OVER (ORDER BY id), {NOW}, '', {COPIED} "
        "FROM background_task WHERE locked_by = ?"
    )
    RECORD = (
        f"INSERT INTO {OUTCOME} SELECT id, ? + row_number() OVER (ORDER BY id), 'succeeded', "
        f"attempts, {NOW} FROM background_task WHERE locked_by = ?"
    )
    REMOVE = "DELETE FROM background_task WHERE locked_by = ?"

    def drain(self) -> Drained:
        assert self.deployment
        path = self.deployment.database.path
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")

            def claim(token: str) -> int:
                return len(connection.execute(self.CLAIM, [token]).fetchall())

            def finish(token: str) -> None:
                connection.execute("BEGIN IMMEDIATE")
                last = (connection.execute(self.LAST).fetchone() or [0])[0]
                connection.execute(self.COPY, [last, token])
                connection.execute(self.RECORD, [last, token])
                connection.execute(self.REMOVE, [token])
                connection.execute("COMMIT")

            return self.timed(claim, finish)
