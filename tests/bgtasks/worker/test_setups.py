"""Real workers in projects that are set up otherwise."""

from __future__ import annotations

import psycopg
import pytest

from tests.bgtasks.worker.helpers import Deploy, allow_connections, elsewhere
from tests.harness.deployment import Deployment
from tests.harness.process import kill_tree
from tests.harness.waiting import eventually


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Tokyo"])
def test_p2_without_time_zones_a_lost_host_is_told_from_a_living_one(
    deploy: Deploy, zone: str
) -> None:
    project = deploy(USE_TZ=False, TIME_ZONE=zone, BGTASKS_LEASE=1)
    go = project.folder / "go"
    first = project.worker(**elsewhere(project))
    project.run(f"tasks.until('a', {str(go)!r})")
    project.wait_for("begin")
    second = project.worker(**elsewhere(project))
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "two workers")
    kill_tree(first.pid)
    project.wait_for("begin", count=2)
    go.touch()
    eventually(lambda: project.completed(), "recorded")
    (attempt,) = project.attempts()
    assert f"process {first.pid} on" in attempt["error"]
    assert "No heartbeat" not in second.output


def test_many_threads_and_quick_tasks_run_each_once(project: Deployment) -> None:
    project.run("for n in range(2500): tasks.nothing()")
    project.drain("--threads", "16")
    assert len(project.completed("failed_at IS NULL AND attempts = 1")) == 2500
    assert project.attempts() == []


def test_a_pool_of_connections_is_not_shared_with_the_children(project: Deployment) -> None:
    if not project.database.on_postgresql:
        return
    options = {"DATABASE_OPTIONS": '{"pool": {"min_size": 1, "max_size": 4}}'}
    project.run("for n in range(200): tasks.query(n)")
    project.drain("--processes", "2", "--threads", "2", **options)
    assert len(project.completed("failed_at IS NULL AND attempts = 1")) == 200


@pytest.mark.parametrize(
    "lock",
    [
        "UPDATE background_task SET verbose_name = 'in an open transaction'",
        "LOCK TABLE bgtasks_revocation IN ACCESS EXCLUSIVE MODE",
    ],
)
def test_a_heartbeat_waits_for_no_lock(deploy: Deploy, lock: str) -> None:
    project = deploy(BGTASKS_LEASE=1)
    if not project.database.on_postgresql:
        return
    go = project.folder / "go"
    project.run(f"tasks.until('a', {str(go)!r})")
    workers = [project.worker(), project.worker()]
    project.wait_for("begin")
    eventually(lambda: len(project.rows("bgtasks_worker")) == 2, "two workers")
    beats = {row["name"]: row["heartbeat_at"] for row in project.rows("bgtasks_worker")}

    def three_leases_on() -> bool:
        rows = project.rows("bgtasks_worker")
        return all((r["heartbeat_at"] - beats[r["name"]]).total_seconds() > 3 for r in rows)

    with psycopg.connect(project.database.url) as other:
        other.execute(lock)
        eventually(three_leases_on, "both live")
    go.touch()
    eventually(lambda: project.completed(), "recorded")
    assert len(project.ledger("begin")) == 1
    assert all("declared dead" not in worker.output for worker in workers)


def test_a_duration_is_over_without_a_database_too(project: Deployment) -> None:
    if not project.database.on_postgresql:
        return
    allow_connections(project, False)
    worker = project.worker("--duration", "1")
    assert worker.wait() == 0
    assert "Waiting for the database" in worker.output


def test_a_runner_of_the_projects_own_survives_a_lost_connection(project: Deployment) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.running"}
    project.run("tasks.cut_connection('a', priority=1); tasks.work(1)", **more)
    output = project.drain(**more)
    assert "runner of its own" in output
    assert len(project.completed("failed_at IS NULL AND attempts = 1")) == 2
    assert len(project.ledger("cut")) == 1


def test_a_runner_of_the_projects_own_ends_when_told_to(project: Deployment) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.running"}
    project.run("tasks.work(1)", **more)
    worker = project.worker("--sleep", "600", **more)
    project.wait_for("work", "1")
    assert worker.stop() == 0


def test_told_to_stop_before_it_runs_a_worker_in_this_process_starts_nothing(
    project: Deployment,
) -> None:
    project.run(
        "from bgtasks.supervisor.in_process import InProcess\n"
        "from bgtasks.worker.options import Options\n"
        "tasks.work(1)\nworker = InProcess(Options())\nworker.stop()\nworker.run()"
    )
    assert len(project.rows(where="attempts = 0 AND locked_by IS NULL")) == 1


def test_projects_may_refer_to_rows(project: Deployment) -> None:
    more = {"MORE_APPS": "tests.bgtasks.project.referring"}
    assert project.manage("migrate", "--run-syncdb", "--verbosity", "0", **more).returncode == 0
    project.run(
        "from tests.bgtasks.project.referring.models import Report\n"
        "Report.objects.create(task=tasks.work(1))\nReport.objects.create(task=tasks.fail())",
        **more,
    )
    project.drain(**more)
    assert len(project.completed()) == 1
    tasks = [row["task_id"] is None for row in project.rows("referring_report")]
    assert tasks == [True, False]


def test_more_threads_than_connections_are_told_at_the_start(project: Deployment) -> None:
    output = project.drain("--processes", "100", "--threads", "100")
    told = "needs 10201 connections to the database" in output
    assert told is project.database.on_postgresql
