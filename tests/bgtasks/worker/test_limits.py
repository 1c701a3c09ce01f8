"""Real workers: tasks that run too long."""

from __future__ import annotations

from tests.bgtasks.worker.helpers import Deploy
from tests.harness.deployment import Deployment
from tests.harness.process import children
from tests.harness.waiting import eventually


def test_a_task_past_its_timeout_is_ended_and_its_neighbours_lose_nothing(
    project: Deployment,
) -> None:
    go = project.folder / "go"
    project.run(f"tasks.endless('a'); tasks.until('n', {str(go)!r})")
    worker = project.worker("--threads", "2")
    project.wait_for("begin", count=2)
    pid = int(project.ledger("begin")[0][-1])
    go.touch()
    eventually(lambda: project.attempts(), "timed out")
    (attempt,) = project.attempts()
    assert attempt["state"] == "timed_out"
    assert "longer than 1 s" in attempt["error"]
    assert [row["attempts"] for row in project.completed()] == [1]
    (row,) = project.rows()
    assert (row["locked_by"], row["attempts"]) == (None, 1)
    eventually(lambda: children(worker.pid) not in ([], [pid]), "another child")


def test_neighbours_that_outlast_the_grace_period_are_stopped_and_not_suspected(
    deploy: Deploy,
) -> None:
    project = deploy(BGTASKS_GRACE=0.2)
    project.run("tasks.endless('a'); tasks.until('n', '/nowhere')")
    project.worker("--threads", "2")
    project.wait_for("begin", "n", count=2)
    states = {attempt["state"] for attempt in project.attempts()}
    assert states == {"timed_out", "stopped"}


def test_a_coroutine_past_its_timeout_is_cancelled(project: Deployment) -> None:
    project.run("tasks.endless_coroutine('a'); tasks.work(1, priority=-1)")
    project.worker()
    pid = project.wait_for("begin")[0][-1]
    assert project.wait_for("work")[0][-1] == pid, "its process lives on"
    (attempt,) = eventually(project.attempts, "cancelled")
    assert attempt["state"] == "timed_out"


def test_max_run_time_limits_every_task_once_a_project_sets_it(deploy: Deploy) -> None:
    project = deploy(MAX_RUN_TIME=1)
    project.run("tasks.until('a', '/nowhere')")
    project.worker()
    eventually(lambda: project.attempts(), "timed out")
    assert project.attempts()[0]["state"] == "timed_out"


def test_a_huge_max_run_time_is_no_limit(deploy: Deploy) -> None:
    project = deploy(MAX_RUN_TIME=9999999999)
    project.run("tasks.work(1)")
    project.drain()
    assert len(project.completed()) == 1
