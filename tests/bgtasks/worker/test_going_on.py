"""Real workers: what does not keep them from going on."""

from __future__ import annotations

import pytest

from tests.bgtasks.worker.helpers import Deploy, allow_connections
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_a_task_that_ends_the_interpreter_is_a_failed_attempt(
    project: Deployment, name: str
) -> None:
    project.run(f"tasks.raise_named({name!r}, priority=1); tasks.work(1)")
    project.drain()
    assert project.ledger("raise")[0][-1] == project.ledger("work")[0][-1], "the same process"
    assert [attempt["state"] for attempt in project.attempts()] == ["failed"]
    assert name in project.attempts()[0]["error"]


def test_a_task_that_exhausts_the_memory_is_a_failed_attempt(project: Deployment) -> None:
    project.run("tasks.exhaust_memory(priority=1); tasks.work(1)")
    project.drain()
    assert "MemoryError" in project.attempts()[0]["error"]
    assert len(project.completed()) == 1


@pytest.mark.parametrize("leak", ["leak_transaction", "leak_raw_transaction"])
def test_a_leaked_transaction_is_rolled_back_and_told(project: Deployment, leak: str) -> None:
    project.run(f"tasks.{leak}(priority=1); tasks.query(1)")
    project.drain()
    assert "left a transaction open on default" in project.attempts()[0]["error"]
    assert project.ledger("query")[0][:3] == ["query", "1", "0"]
    assert len(project.completed()) == 1


def test_a_leaked_language_does_not_reach_the_next_task(project: Deployment) -> None:
    project.run("tasks.leak_language(priority=1); tasks.tell_language()")
    project.drain()
    assert project.ledger("language")[0][1:3] == ["en-us", "America/Chicago"]


def test_a_connection_lost_in_a_task_costs_that_task_an_attempt_only(project: Deployment) -> None:
    project.run("tasks.lose_connection(priority=1); tasks.query(1)")
    project.drain()
    assert [attempt["state"] for attempt in project.attempts()] == ["failed"]
    assert len(project.completed()) == 1


def test_raising_receivers_change_no_outcome(project: Deployment) -> None:
    apps = {"MORE_APPS": "tests.bgtasks.project.listening"}
    project.run(
        "for n in range(4): tasks.work(n)\ntasks.work(4, repeat=3600)\n"
        "tasks.fail()\ntasks.kill_worker('pill', priority=1)"
    )
    output = project.drain(**apps)
    assert len(project.ledger("work")) == 5
    assert len(project.rows(where="repeat = 3600")) == 1, "it repeats all the same"
    assert len(project.completed()) == 5
    assert len(project.rows("bgtasks_outcome")) == 5
    states = sorted(attempt["state"] for attempt in project.attempts())
    assert states == ["failed", "lost", "lost"]
    told = {line[1] for line in project.ledger("receiver")}
    assert {
        "successful",
        "error",
        "rescheduled",
        "started",
        "CompletedTask",
        "Task",
        "audit",
    } <= told
    assert "the task's outcome stands" in output


def test_a_row_deleted_while_it_runs_stays_deleted(project: Deployment) -> None:
    project.run("tasks.delete_own_row('k')")
    output = project.drain()
    assert len(project.ledger("deleted")) == 1
    assert project.rows() == project.completed() == []
    assert "is not recorded" in output


def test_text_that_no_database_stores_is_stored_escaped(project: Deployment) -> None:
    project.run("tasks.nul(priority=1); tasks.work(1)")
    project.drain()
    assert r"a \x00 and half a pair \ud800" in project.rows()[0]["last_error"]
    assert len(project.completed()) == 1


def test_p5_an_outage_kills_nobody(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    if not project.database.on_postgresql:
        return  # a file has no outage; test_sqlite.py has what it has instead
    go = project.folder / "go"
    project.run(f"for n in range(2): tasks.until(n, {str(go)!r})")
    workers = [project.worker(), project.worker()]
    project.wait_for("begin", count=2)
    allow_connections(project, False)
    for worker in workers:
        worker.wait_for("No heartbeat")
    go.touch()
    project.wait_for("end", count=2)
    for worker in workers:
        # Longer than the lease: each tries to record, four times at least.
        worker.wait_for("trying again")
        mark = worker.mark()
        assert mark
    allow_connections(project, True)
    eventually(lambda: len(project.completed()) == 2, "recorded")
    assert len(project.ledger("begin")) == 2
    assert project.attempts() == []
    assert len(project.rows("bgtasks_worker")) == 2


def test_terminated_backends_lose_nothing(project: Deployment) -> None:
    if not project.database.on_postgresql:
        return
    project.run("for n in range(400): tasks.query(n)")
    worker = project.worker("--threads", "4", "--drain")
    for count in (50, 150, 250):
        project.wait_for("query", count=count)
        project.database.administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{project.database.name}'"
        )
    assert worker.wait() == 0
    # A query that was cut off is a failed attempt, and says so.
    for attempt in project.attempts():
        assert attempt["state"] == "failed"
    done = len(project.completed()) + len(project.rows())
    assert done == 400
    runs = [line[1] for line in project.ledger("query")]
    assert len(runs) == len(set(runs))
