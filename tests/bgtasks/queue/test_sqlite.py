"""What only a file can do: be locked, be full, be without WAL."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually


@pytest.mark.parametrize("mode", ["DEFERRED", "IMMEDIATE"])
def test_a_locked_database_is_waited_for(project: Deployment, mode: str) -> None:
    project.run("for n in range(50): tasks.work(n)")
    with closing(sqlite3.connect(project.database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # Patience of a tenth of a second, so that the worker meets the lock and not the wait.
        options = json.dumps({"timeout": 0.1, "transaction_mode": mode})
        worker = project.worker("--drain", DATABASE_OPTIONS=options)
        worker.wait_for("Waiting for the database: database is locked")
        other.execute("ROLLBACK")
    assert worker.wait() == 0
    assert len(project.completed()) == 50


@pytest.mark.parametrize("mode", ["DEFERRED", "IMMEDIATE"])
def test_an_atomic_task_waits_for_a_locked_database_and_counts_no_attempt(
    project: Deployment, mode: str
) -> None:
    project.run("tasks.change('key')")
    # Locked as soon as the task is claimed, when nothing else writes.
    options = json.dumps({"timeout": 0.1, "transaction_mode": mode})
    worker = project.worker(
        DATABASE_OPTIONS=options, MORE_APPS="tests.bgtasks.project.locking.Locking"
    )
    worker.wait_for("could not begin its transaction: database is locked. It is tried again in 1 s")
    (project.folder / "unlock").touch()
    eventually(lambda: project.ledger("trace"), "it has run")
    worker.stop()
    assert [row["attempts"] for row in project.completed()] == [1, 1]
    assert project.attempts() == []


def test_an_error_that_is_no_lock_fails_an_atomic_task(project: Deployment) -> None:
    """A database that cannot be written is no reason to try for ever."""
    project.run("tasks.change('key')")
    said = project.run(
        "from django.db import connection\n"
        "from bgtasks.queue import claims, database as db\n"
        "from bgtasks.running import executor\n"
        "from bgtasks.running.run import Runs, claimed_here\n"
        "[row] = claims.claim('bg~x.1-1', [tasks.Task.objects.get().task_name], 1)\n"
        "connection.cursor().execute('PRAGMA query_only = 1')\n"
        "ending = executor.run(Runs().of(claimed_here(row)))\n"
        "print(ending.state, ending.snoozed, 'readonly' in ending.error)"
    )
    assert said == "failed False True\n"


def test_endings_wait_for_a_locked_database(project: Deployment) -> None:
    go = project.folder / "go"
    project.run(f"tasks.until('a', {str(go)!r})")
    worker = project.worker(DATABASE_OPTIONS=json.dumps({"timeout": 0.1}))
    project.wait_for("begin")
    with closing(sqlite3.connect(project.database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        go.touch()
        worker.wait_for("trying again: database is locked")
        other.execute("ROLLBACK")
    eventually(lambda: project.completed(), "recorded")
    assert len(project.ledger("begin")) == 1
    assert project.attempts() == []


def test_a_full_disk_is_waited_for(project: Deployment) -> None:
    project.run("for n in range(200): tasks.work('x' * 2000 + str(n))")
    with closing(sqlite3.connect(project.database.path, isolation_level=None)) as other:
        other.execute("CREATE TABLE ballast (data)")
        other.execute("INSERT INTO ballast VALUES (zeroblob(4000000))")
        # There is room for the worker's own row, and not for what it completes.
        other.execute("CREATE TABLE room AS SELECT zeroblob(100000)")
        other.execute("DROP TABLE room")
        (pages,) = other.execute("PRAGMA page_count").fetchone()
        # To the worker the disk ends where the file ends now: this is SQLite's own SQLITE_FULL.
        full = f"PRAGMA journal_mode=WAL; PRAGMA max_page_count={pages}"
        worker = project.worker("--drain", DATABASE_OPTIONS=json.dumps({"init_command": full}))
        worker.wait_for("trying again: database or disk is full")
        other.execute("DROP TABLE ballast")
    assert worker.wait() == 0
    assert len(project.completed()) == 200
    assert len(project.ledger("work")) == 200
    assert project.attempts() == []


def test_without_wal_and_with_djangos_own_settings_it_works_too(project: Deployment) -> None:
    project.database.query("PRAGMA journal_mode=DELETE")
    plain = {"DATABASE_OPTIONS": json.dumps({"init_command": "", "timeout": 5})}
    project.run("for n in range(100): tasks.work(n)", **plain)
    project.run("for n in range(20): tasks.query(n)", **plain)
    project.drain("--threads", "4", **plain)
    assert len(project.completed()) == 120
    assert project.database.query("PRAGMA journal_mode")[0]["journal_mode"] == "delete"


INTERRUPTED = """
import sqlite3
from contextlib import closing, suppress
from bgtasks import AsyncResult
from bgtasks.queue import acting, outcomes, retrying

def write_before(module, name):
    original = getattr(module, name)
    def writes_first(*args, **kwargs):
        # Another process, which has no patience. If it can write now, the transaction around this
        # call cannot any more.
        with closing(sqlite3.connect({path!r}, timeout=0)) as other:
            with suppress(sqlite3.OperationalError):
                other.execute("CREATE TABLE something (else_)")
                other.commit()
        return original(*args, **kwargs)
    setattr(module, name, writes_first)

row = tasks.work('a', repeat=3600, schedule=3600)
write_before({where})
print({act})
"""


@pytest.mark.parametrize(
    ("where", "act", "said"),
    [
        ("acting.call_options, 'keep_slot'", "acting.run_now([row.pk]) == [row.pk]", "True"),
        ("outcomes.progress, 'keep'", "AsyncResult(row.pk).revoke()", "True"),
        ("outcomes.progress, 'keep'", "acting.cancel([row.pk]) == [row.pk]", "True"),
        (
            "retrying, '_import_unknown'",
            "AsyncResult(row.pk).revoke(), len(retrying.retry([row.pk]).ids)",
            "True 1",
        ),
        (
            "acting.pruning, 'forget'",
            "AsyncResult(row.pk).revoke(), acting.delete_ended([row.pk]) == [row.pk]",
            "True True",
        ),
    ],
)
def test_who_acts_on_tasks_reads_and_writes_without_others_in_between(
    project: Deployment, where: str, act: str, said: str
) -> None:
    """Also with Django's own default, a transaction that takes the write lock when it writes."""
    options = {"DATABASE_OPTIONS": json.dumps({"timeout": 5})}
    path = str(project.database.path)
    code = INTERRUPTED.format(path=path, where=where, act=act)
    assert project.run(code, **options).split("\n")[-2:] == [said, ""]
