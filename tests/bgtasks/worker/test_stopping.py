"""Real workers: how they stop."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests import settings
from tests.bgtasks.worker.helpers import Deploy
from tests.harness.deployment import Deployment
from tests.harness.process import children
from tests.harness.servers import Relay
from tests.harness.waiting import eventually


def lock_holder(project: Deployment) -> list[dict]:
    return project.rows(where="locked_by IS NOT NULL")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGTSTP", "SIGHUP"])
def test_told_to_stop_it_finishes_what_runs_and_hands_back_the_rest(
    project: Deployment, name: str
) -> None:
    go = project.folder / "go"
    project.run(
        f"for n in range(60): tasks.work(n, priority=2)\ntasks.until(1, {str(go)!r}, priority=1)\n"
        "for n in range(60, 90): tasks.work(n)"
    )
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, getattr(signal, name))
    eventually(lambda: len(project.rows(where="locked_by IS NULL")) == 30, "handed back")
    go.touch()
    assert worker.wait() == 0, worker.output
    assert len(project.ledger("end")) == 1
    assert len(project.completed()) == 61
    assert [row["attempts"] for row in project.rows()] == [0] * 30
    assert project.rows("bgtasks_worker") == []
    assert project.attempts() == []


def test_a_task_that_outlasts_the_grace_period_is_ended_and_its_row_released(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_GRACE=0.3)
    project.run("tasks.until(1, '/nowhere')")
    worker = project.worker()
    project.wait_for("begin")
    assert worker.stop() == 0
    (row,) = project.rows()
    assert (row["locked_by"], row["attempts"]) == (None, 1)
    assert "Stopped: " in row["last_error"]
    assert [attempt["state"] for attempt in project.attempts()] == ["stopped"]


@pytest.mark.parametrize(("second", "after"), [("SIGTERM", 0.15), ("SIGINT", 1.1)])
def test_a_second_signal_ends_it_at_once(deploy: Deploy, second: str, after: float) -> None:
    project = deploy(BGTASKS_GRACE=600)
    project.run("tasks.until(1, '/nowhere')")
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, signal.SIGTERM)
    # Sooner, the second signal would count as the first one, which two may have passed on.
    not_before = time.monotonic() + after
    worker.wait_for("is stopping")
    eventually(lambda: time.monotonic() > not_before, "another signal")
    os.kill(worker.pid, getattr(signal, second))
    assert worker.wait() == 0
    assert lock_holder(project) == []
    assert [attempt["state"] for attempt in project.attempts()] == ["stopped"]


def test_one_ctrl_c_that_two_pass_on_is_one_signal(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=600)
    go = project.folder / "go"
    project.run(f"tasks.until(1, {str(go)!r})")
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait_for("is stopping")
    go.touch()
    assert worker.wait() == 0
    assert len(project.completed()) == 1


@pytest.mark.parametrize("moment", ["begin", "is ready"])
def test_it_ends_though_the_database_never_answers_again(deploy: Deploy, moment: str) -> None:
    if settings.DATABASE != "postgresql":  # a file has no peer that could be silent
        return
    project = deploy(BGTASKS_GRACE=0.5, BGTASKS_LEASE=1)
    relay = Relay(project.database.url)
    try:
        if moment == "begin":
            project.run("tasks.until(1, '/nowhere')")
        worker = project.worker(DATABASE_URL=relay.url)
        if moment == "begin":
            project.wait_for("begin")
        worker.wait_for("is ready")
        relay.swallow()
        relay.asked.wait(30)
        assert worker.stop(timeout=30) == 1
        assert "the database has not answered" in worker.output
        assert children(worker.pid) == []
    finally:
        relay.close()


def test_a_child_told_to_stop_is_replaced(project: Deployment) -> None:
    worker = project.worker()
    (child,) = eventually(lambda: children(worker.pid), "a child")
    os.kill(child, signal.SIGTERM)
    eventually(lambda: children(worker.pid) not in ([child], []), "another child")
    project.run("tasks.work(1)")
    project.wait_for("work")


def test_told_to_rest_or_to_hurry_it_works_on(project: Deployment) -> None:
    worker = project.worker()
    (child,) = eventually(lambda: children(worker.pid), "a child")
    for key, name in (("a", "SIGUSR2"), ("b", "SIGUSR1")):
        os.kill(worker.pid, getattr(signal, name))
        os.kill(child, getattr(signal, name))  # a terminal or a script may tell all of them
        project.run(f"tasks.work({key!r})")
        project.wait_for("work", key)
    assert children(worker.pid) == [child]
