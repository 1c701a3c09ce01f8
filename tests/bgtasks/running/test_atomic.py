"""Tasks with ``atomic=True``: what they write and their outcome happen once, together, or not."""

from __future__ import annotations

import os
import signal

import pytest

from tests.bgtasks.worker.helpers import Deploy, elsewhere
from tests.harness.deployment import Deployment
from tests.harness.process import children, thaw
from tests.harness.waiting import eventually

ONCE = ["key 1"]
AGAIN = ["key 2"]


def users(project: Deployment) -> list[str]:
    return sorted(row["username"] for row in project.rows("auth_user"))


def traces(project: Deployment) -> list[list[str]]:
    """Which attempts' follow-up tasks have run: attempts that came to nothing left none."""
    return [line[1:3] for line in project.ledger("trace")]


def run(project: Deployment, fault: str = "", *arguments: str) -> str:
    project.run(f"tasks.change('key', {fault!r})")
    output = project.drain(*arguments)
    while project.rows():  # what a dead worker held waits a moment for the next one
        project.hurry()
        output += project.drain(*arguments)
    return output


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_success_writes_everything_once(project: Deployment, threads: str) -> None:
    run(project, "", "--threads", threads)
    assert users(project) == ONCE
    assert traces(project) == [["key", "1"]]
    assert len(project.ledger("change")) == 1
    [outcome] = project.rows("bgtasks_outcome", "result IS NOT NULL")
    assert outcome["result"] == '"changed key"'
    assert outcome["started_at"]
    [child] = project.rows("bgtasks_child")
    assert child["parent_id"] == outcome["task_id"]


@pytest.mark.parametrize(
    "fault",
    ["dies before", "dies after", "dies as it is recorded", "a receiver writes and dies", "raises"],
)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_p3_what_an_attempt_wrote_that_was_not_committed_is_gone(
    project: Deployment, fault: str, threads: str
) -> None:
    run(project, fault, "--threads", threads)
    assert len(project.ledger("change")) == 2
    assert users(project) == AGAIN
    assert traces(project) == [["key", "2"]]
    assert project.completed("failed_at IS NOT NULL") == []
    [attempt] = project.attempts()
    assert attempt["state"] == ("failed" if fault == "raises" else "lost")
    [child] = project.rows("bgtasks_child")
    assert child["parent_id"] == attempt["task_id"]
    assert project.rows("bgtasks_outcome", f"task_id = {child['task_id']}")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("a receiver writes and raises", "ValueError: as it should"),
        ("a receiver swallows an error", "It caught an error of the database"),
        ("a late receiver swallows an error", "It caught an error of the database"),
    ],
)
def test_what_a_receiver_does_wrong_undoes_what_it_has_written_itself(
    project: Deployment, fault: str, told: str
) -> None:
    assert told in run(project, fault)
    assert users(project) == ONCE
    assert traces(project) == [["key", "1"]]
    assert project.attempts() == []


def test_what_follows_a_success_is_in_its_transaction(project: Deployment) -> None:
    project.run("tasks.change('key', 'dies as it is recorded', repeat=3600)")
    project.drain()
    assert users(project) == AGAIN
    [following] = project.rows()  # the next run
    assert following["attempts"] == 0


@pytest.mark.parametrize(
    "fault", ["dies when committed", "raises when committed", "queries in vain when committed"]
)
def test_p3_what_was_committed_stays_and_is_not_run_again(project: Deployment, fault: str) -> None:
    output = run(project, fault)
    assert len(project.ledger("change")) == 1
    assert users(project) == ONCE
    assert traces(project) == [["key", "1"]]
    assert project.attempts() == []
    if fault != "dies when committed":
        assert "passed to transaction.on_commit() raised. The task has succeeded" in output


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("leaves a block open", "left a block of transaction.atomic() open"),
        ("asks for a rollback", "or called set_rollback()"),
        ("deletes its row", "changed or deleted its own row"),
        ("closes the connection", "or closed the connection"),
    ],
)
def test_a_transaction_that_cannot_be_committed_is_a_failed_attempt(
    project: Deployment, fault: str, told: str
) -> None:
    output = run(project, fault)
    assert told in output
    assert users(project) == AGAIN
    assert traces(project) == [["key", "2"]]
    [attempt] = project.attempts()
    assert told in attempt["error"]


@pytest.mark.on_sqlite  # on PostgreSQL nobody sees it, as the docs say
def test_a_commit_by_hand_is_a_failed_attempt(project: Deployment) -> None:
    assert "executed COMMIT or ROLLBACK" in run(project, "commits by hand")
    assert users(project) == [*ONCE, *AGAIN]  # what was committed by hand stays


def test_an_error_of_the_database_that_is_caught_spoils_the_transaction_on_postgresql(
    project: Deployment,
) -> None:
    output = run(project, "catches an error")
    if project.database.on_postgresql:
        assert "caught an error of the database outside of a `with" in output
        assert users(project) == AGAIN
    else:
        assert users(project) == ONCE


def test_a_connection_that_is_lost_takes_the_attempt_with_it(project: Deployment) -> None:
    run(project, "loses its connection")
    assert users(project) == AGAIN
    [attempt] = project.attempts()
    assert attempt["state"] == "failed"


def test_a_result_that_is_not_json_leaves_nothing(project: Deployment) -> None:
    project.run("tasks.return_an_object('key')")
    project.drain()
    assert users(project) == traces(project) == []
    assert "cannot be kept as JSON" in project.completed()[0]["last_error"]


def test_a_coroutine_writes_in_the_transaction_too(project: Deployment) -> None:
    project.run("tasks.change_in_coroutine('key'); tasks.change_in_coroutine('in vain')")
    project.drain()
    assert users(project) == ONCE
    assert traces(project) == [["key", "1"]]
    assert [line[1] for line in project.ledger("atomic")] == ["True", "True"]


@pytest.mark.parametrize("task", ["change_for_too_long", "await_for_too_long"])
def test_what_is_ended_by_its_time_limit_leaves_nothing(project: Deployment, task: str) -> None:
    project.run(f"tasks.{task}('key')")
    project.drain()
    assert project.ledger("begin")
    assert users(project) == traces(project) == []
    [attempt] = project.attempts()
    assert attempt["state"] == "timed_out"


def test_a_coroutine_that_is_late_is_cancelled_and_may_clean_up(project: Deployment) -> None:
    project.run("tasks.await_for_too_long('key')")
    output = project.drain()
    assert project.ledger("cleaned", "up")
    assert "was cancelled" in output
    assert "ended with its process" not in output


@pytest.mark.on_sqlite
def test_to_wait_for_the_lock_takes_nothing_of_the_time_limit(project: Deployment) -> None:
    project.run("tasks.change_slowly('slow', 2, priority=1)\ntasks.change_in_time('key')")
    project.drain("--threads", "2")
    [(_, seconds, _)] = project.ledger("deadline")
    assert 1 < float(seconds) <= 1.5
    assert "key 1" in users(project)
    assert project.attempts() == []


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_transaction_that_a_receiver_left_open_is_not_that_of_the_task(
    project: Deployment, threads: str
) -> None:
    project.run("tasks.have_receivers_leak(priority=1)")
    project.run("tasks.change('key')")
    output = project.drain("--threads", threads)
    assert "A transaction was left open on default between tasks" in output
    assert users(project) == ONCE
    assert project.rows("bgtasks_outcome", "state <> 'succeeded'") == []


def test_a_copy_of_the_process_commits_nothing(project: Deployment) -> None:
    project.run("tasks.change_and_fork('key')")
    project.drain()
    assert len(project.ledger("returns")) == 2
    assert users(project) == ONCE
    assert traces(project) == [["key", "1"]]
    assert project.attempts() == []


@pytest.mark.on_postgresql  # on SQLite nobody can take a row from a task that has the write lock
def test_p3_a_host_that_lost_its_claim_commits_nothing(deploy: Deploy) -> None:
    project = deploy(BGTASKS_LEASE=1)
    go = project.folder / "go"
    first = project.worker(**elsewhere(project))
    project.run(f"tasks.change_until('key', {str(go)!r})")
    project.wait_for("begin")
    frozen = [first.pid, *children(first.pid)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    assert project.database.is_locked()  # by the transaction of the task
    second = project.worker(**elsewhere(project))
    project.wait_for("begin", count=2)
    go.touch()
    eventually(lambda: project.completed("task_name LIKE '%until'"), "the second has ended")
    thaw(frozen)
    eventually(lambda: not project.database.is_locked(), "the first has ended its transaction")
    first.stop()
    second.stop()
    assert users(project) == AGAIN
    assert traces(project) == [["key", "2"]]


@pytest.mark.on_postgresql  # on SQLite the run ends before anybody can write that it is revoked
def test_a_revoked_run_leaves_nothing(project: Deployment) -> None:
    worker = project.worker("--threads", "2")
    project.run("tasks.change_until('key', '/nowhere')")
    project.wait_for("begin")
    project.run(
        "from bgtasks import AsyncResult\n"
        "print(AsyncResult(tasks.Task.objects.get().pk).revoke(terminate=True))"
    )
    eventually(lambda: project.rows("bgtasks_outcome", "state = 'cancelled'"), "revoked")
    eventually(lambda: f"{project.ledger('begin')[0][-1]}" in worker.output, "its process ended")
    worker.stop()
    assert users(project) == traces(project) == []


def test_on_sqlite_others_wait_as_long_as_it_runs_and_nobody_takes_it_for_dead(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_LEASE=1)
    workers = [project.worker("--threads", "3", **elsewhere(project)) for _ in range(2)]
    project.run("tasks.change_slowly('key', 4)\nfor n in range(20): tasks.work(n)")
    project.wait_for("end", "key")
    project.wait_for("work", count=20)
    project.wait_for("trace")
    eventually(lambda: len(project.completed()) == 22, "all recorded")
    assert users(project) == ONCE
    assert project.attempts() == []
    for worker in workers:
        worker.stop()


def test_many_at_once_each_count_once(project: Deployment) -> None:
    """On PostgreSQL two may want the same name: one of them fails, and is tried again."""
    project.run("for _ in range(60): tasks.count_up()")
    for _ in range(60):
        project.drain("--threads", "4", "--processes", "2")
        if not project.rows():
            break
        project.hurry()
    assert sorted(map(int, users(project))) == list(range(60))
    assert len(project.completed("failed_at IS NULL")) == 60
