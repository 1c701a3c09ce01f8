"""Real workers: how they stop."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.bgtasks.worker.helpers import Deploy
from tests.harness.deployment import Deployment
from tests.harness.process import children
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


def test_told_twice_it_ends_at_once(deploy: Deploy) -> None:
    project = deploy(BGTASKS_GRACE=600)
    project.run("tasks.until(1, '/nowhere')")
    worker = project.worker()
    project.wait_for("begin")
    os.kill(worker.pid, signal.SIGTERM)
    told_at = time.monotonic()

    def told_again() -> bool:
        nonlocal told_at
        if time.monotonic() - told_at > 1.2:  # within a second it would be the same signal
            os.kill(worker.pid, signal.SIGINT)
            told_at = time.monotonic()
        return not lock_holder(project)

    eventually(told_again, "handed back")
    assert worker.wait() == 0
    assert [attempt["state"] for attempt in project.attempts()] == ["stopped"]


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
