"""Crontab lines in real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.harness.deployment import Deployment
from tests.harness.process import kill_tree
from tests.harness.waiting import eventually

APP = "tests.bgtasks.project.ticking"


def start(project: Deployment, *arguments: str) -> Any:
    return project.worker(*arguments, MORE_APPS=APP)


def drain(project: Deployment, *arguments: str) -> str:
    return project.drain(*arguments, MORE_APPS=APP)


def miss(project: Deployment, task: str = "new_year") -> None:
    """Make it so that slots of a task have passed while no worker ran."""
    name = f"{APP}.tasks.{task}"
    project.database.query(
        f"UPDATE bgtasks_cronslot SET slot = '2019-06-01 00:00:00' WHERE name = '{name}'"
    )


def new_years(project: Deployment) -> int:
    return len(project.ledger("new", "year"))


def test_a_drain_enqueues_and_runs_what_was_missed_once(project: Deployment) -> None:
    drain(project)
    assert new_years(project) == 0
    for expected in (1, 2):
        miss(project)
        output = drain(project)
        assert f"Task {APP}.tasks.new_year was due at" in output
        drain(project)
        assert new_years(project) == expected
    assert len(project.completed("task_name LIKE '%new_year'")) == 2


def test_a_worker_of_one_queue_enqueues_for_the_others_too(project: Deployment) -> None:
    drain(project)
    miss(project)
    drain(project, "--queue", "elsewhere")
    (row,) = project.rows(where="task_name LIKE '%new_year'")
    assert (row["queue"], row["attempts"]) == (None, 0)
    drain(project, "--queue", "elsewhere")
    assert len(project.rows(where="task_name LIKE '%new_year'")) == 1


def test_a_reloading_worker_makes_up_for_it_too(project: Deployment) -> None:
    drain(project)
    miss(project, "tick")
    process = start(project, "--dev")
    project.wait_for("tick")
    process.stop()


def test_a_drain_without_children_runs_what_was_missed(project: Deployment) -> None:
    drain(project)
    miss(project)
    code = """
from threading import Thread
from bgtasks.launch import launch
from bgtasks.worker.options import Options
thread = Thread(target=launch, args=[Options(drain=True)])
thread.start()
thread.join()
"""
    project.run(code, MORE_APPS=APP)
    assert new_years(project) == 1


def test_a_runner_of_the_projects_own_makes_up_for_it_too(project: Deployment) -> None:
    more = {"MORE_APPS": f"{APP},tests.bgtasks.project.running"}
    project.drain(**more)
    miss(project)
    project.drain(**more)
    assert new_years(project) == 1


def test_workers_that_start_together_enqueue_one_row(project: Deployment) -> None:
    drain(project)
    miss(project)
    for process in [start(project, "--drain") for _ in range(3)]:
        assert process.wait() == 0, process.output
    assert new_years(project) == 1
    assert len(project.completed("task_name LIKE '%new_year'")) == 1


def test_killed_over_and_over_no_slot_is_lost_or_run_twice(project: Deployment) -> None:
    for expected in range(3):
        process = start(project)
        # Each task's slot is written by itself: the other one is there first.
        eventually(lambda: project.rows("bgtasks_cronslot", "name LIKE '%new_year'"), "seen")
        if expected:
            project.wait_for("new", "year", count=expected)
            eventually(lambda: not project.rows(where="locked_by IS NOT NULL"), "recorded")
        kill_tree(process.pid)
        process.wait()
        assert new_years(project) == expected
        miss(project)
    drain(project)
    assert new_years(project) == 3
    assert project.attempts() == []


def test_killed_between_slot_and_row_it_leaves_neither(project: Deployment) -> None:
    drain(project)
    miss(project)
    die = Path(f"{project.ledger_path}.die")
    die.touch()
    assert start(project).wait() == -9
    assert project.rows(where="task_name LIKE '%new_year'") == []
    (slot,) = project.rows("bgtasks_cronslot", "name LIKE '%new_year'")
    assert str(slot["slot"]).startswith("2019-06-01")
    die.unlink()
    drain(project)
    assert new_years(project) == 1


def test_without_use_tz_the_repeated_hour_has_its_slots(deploy: Any) -> None:
    project = deploy(USE_TZ=False, TIME_ZONE="Europe/Berlin")
    output = project.run(
        """
from datetime import UTC, datetime, timedelta
from background_task.models import Task
from bgtasks.supervisor import cron as chore
from bgtasks.tasks import policies
from bgtasks.tasks.policies import Policy
policies.declare(tasks.work.name, Policy(cron="*/30 * * * *"))
time = datetime(2023, 10, 28, 23, 59, tzinfo=UTC)
chore._now = lambda: time
cron = chore.Cron()
for _ in range(9):
    cron.run()
    time += timedelta(minutes=30)
for row in Task.objects.order_by("pk"):
    print(row.run_at.strftime("%H:%M"), end=" ")
"""
    )
    hours = ["02", "02", "03", "04"]
    assert output.split() == [f"{hour}:{minute}" for hour in hours for minute in ("00", "30")]
