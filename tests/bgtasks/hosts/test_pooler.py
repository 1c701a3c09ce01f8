"""PgBouncer between the processes and PostgreSQL, in transaction mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.deployment import Deployment
from tests.harness.pgbouncer import PgBouncer, pgbouncer
from tests.harness.waiting import eventually

pytestmark = pytest.mark.on_postgresql

TOLD = "there is a pooler, such as PgBouncer"


def settings_of_the_servers(project: Deployment, bouncer: PgBouncer) -> list[str]:
    """What the sessions of the server's have kept, which all clients share."""
    said = project.run(
        "from django.db import connection\n"
        "for _ in range(40):\n"
        "    cursor = connection.cursor()\n"
        "    cursor.execute(\"SELECT current_setting('lock_timeout')\")\n"
        "    print(cursor.fetchone()[0])",
        DATABASE_URL=bouncer.through(project.database.url),
    )
    return said.split()


def test_workers_behind_it_run_everything_and_leave_nothing_in_its_sessions(
    project: Deployment, bouncer: PgBouncer
) -> None:
    pooled = {"DATABASE_URL": bouncer.through(project.database.url)}
    workers = [project.worker("--threads", "2", "--sleep", "600", **pooled) for _ in range(2)]
    for worker in workers:
        worker.wait_for(TOLD)
    for _ in range(3):  # and again when they have nothing to do
        before = len(project.completed())
        project.run("for n in range(100): tasks.query(n)", **pooled)
        eventually(lambda goal=before + 100: len(project.completed()) == goal, "all are run")
    assert project.attempts() == []
    assert set(settings_of_the_servers(project, bouncer)) == {"0"}
    for worker in workers:
        assert worker.stop() == 0
        assert "ERROR" not in worker.output


def test_a_result_is_awaited_through_it(project: Deployment, bouncer: PgBouncer) -> None:
    pooled = {"DATABASE_URL": bouncer.through(project.database.url)}
    project.worker("--sleep", "600", **pooled).wait_for("is ready")
    assert project.run("print(tasks.add.delay(1, 2).get(timeout=60))", **pooled) == "3\n"
    code = "import asyncio\nprint(asyncio.run(tasks.add.delay(1, 3).aget(timeout=60)))"
    assert project.run(code, **pooled) == "4\n"


def test_with_a_direct_connection_they_are_told_of_new_rows(
    project: Deployment, bouncer: PgBouncer
) -> None:
    project.settings["BGTASKS_LISTEN_DATABASE"] = "direct"
    both = {
        "DATABASE_URL": bouncer.through(project.database.url),
        "DIRECT_URL": project.database.url,
    }
    worker = project.worker("--sleep", "600", **both)
    worker.wait_for("is ready")
    listening = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
    eventually(lambda: project.database.query(listening), "it listens")
    project.run("tasks.work('told')", **both)
    project.wait_for("work", "told")
    assert TOLD not in worker.output
    assert worker.stop() == 0


def test_a_receiver_that_waits_longer_than_a_lease_costs_no_outcome(
    deploy: Callable[..., Deployment],
) -> None:
    project = deploy(BGTASKS_LEASE=1, RECEIVER_SLEEPS=5)
    with pgbouncer(project.database.url) as bouncer:
        pooled = {"DATABASE_URL": bouncer.through(project.database.url)}
        worker = project.worker(MORE_APPS="tests.bgtasks.project.patient", **pooled)
        worker.wait_for("is ready")
        project.run("tasks.work('slow'); tasks.coroutine('slow')", **pooled)
        eventually(lambda: len(project.completed()) == 2, "they are recorded")
        assert len(project.ledger("received")) == 2
        assert worker.stop() == 0


def test_in_session_mode_they_can_listen_through_it(project: Deployment) -> None:
    project.settings["BGTASKS_LISTEN_DATABASE"] = "default"
    with pgbouncer(project.database.url, mode="session", size=20) as bouncer:
        pooled = {"DATABASE_URL": bouncer.through(project.database.url)}
        worker = project.worker("--sleep", "600", **pooled)
        worker.wait_for("is ready")
        project.run("tasks.work('told')", **pooled)
        project.wait_for("work", "told")
        assert TOLD not in worker.output
        assert worker.stop() == 0


def test_without_a_pooler_nothing_is_said_of_one(project: Deployment) -> None:
    worker = project.worker("--sleep", "600")
    worker.wait_for("is ready")
    project.run("tasks.work('direct')")
    project.wait_for("work", "direct")
    assert worker.stop() == 0
    assert TOLD not in worker.output
