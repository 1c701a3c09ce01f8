"""Our workers beside those of an older deployment, which still has the stock engine."""

from __future__ import annotations

from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually


def test_p9_a_stock_worker_never_runs_a_row_that_ours_holds(project: Deployment) -> None:
    project.settings = {"BGTASKS_LEASE": 1}
    go = project.folder / "go"
    project.run(f"tasks.until('ours', {str(go)!r})")
    project.worker()
    project.wait_for("begin")
    claimed_at = project.rows()[0]["locked_at"]
    # To it a lock is dead after a second; ours is renewed three times as often.
    project.settings = {"MAX_RUN_TIME": 1}
    stock = project.worker(ENGINE_APPS="background_task")
    project.settings = {}
    for key in ("a", "b", "c"):
        project.run(f"tasks.work({key!r}, queue='elsewhere')")
        project.wait_for("work", key)
    eventually(lambda: age(project, claimed_at) > 3, "the lock was renewed for three lives")
    go.touch()
    eventually(lambda: len(project.completed()) == 4, "all done")
    assert len(project.ledger("begin")) == 1
    assert stock.pid not in [int(line[-1]) for line in project.ledger("begin")]


def age(project: Deployment, since: object) -> float:
    later = project.rows(where="task_name LIKE '%until'")[0]["locked_at"]
    if project.database.on_postgresql:
        return (later - since).total_seconds()
    sql = f"SELECT (julianday('{later}') - julianday('{since}')) * 86400 AS seconds"
    return project.database.query(sql)[0]["seconds"]


def test_what_a_stock_worker_left_locked_is_taken_after_its_time(project: Deployment) -> None:
    project.run("tasks.work(1)")
    project.database.query(
        "UPDATE background_task SET locked_by = '4711', locked_at = '2020-01-01 00:00:00'"
    )
    project.worker()
    project.wait_for("work")


def test_a_fresh_lock_of_a_stock_worker_is_respected(project: Deployment) -> None:
    project.run(
        "from background_task.models import Task; tasks.work(1); Task.objects.get().lock('4711')"
    )
    project.run("tasks.work(2)")
    project.drain()
    assert [line[1] for line in project.ledger("work")] == ["2"]
    assert [row["locked_by"] for row in project.rows()] == ["4711"]


def test_a_stock_worker_goes_on_with_our_rows_once_we_are_gone(project: Deployment) -> None:
    project.run("tasks.fail('f', priority=1); tasks.work(1, schedule=0)")
    worker = project.worker("--duration", "0.3")
    worker.wait()
    project.run("tasks.work(2)")
    assert project.manage("migrate", "bgtasks", "zero").returncode == 0
    project.hurry()
    project.worker("--duration", "2", ENGINE_APPS="background_task")
    project.wait_for("work", "2")
    project.wait_for("fail", count=2)
