"""What waits for nobody is found, with what to do about it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import checks
from bgtasks.models import Worker
from bgtasks.operations.unserved import unserved
from bgtasks.queue import claims, pauses
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import TOKEN, register
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def waiting(**options: Any) -> Task:
    return task(["a"], schedule=timezone.now() - timedelta(seconds=6), **options)


def living(**values: Any) -> None:
    register("bg~a")
    Worker.objects.update(**values)


def texts() -> list[str]:
    return [str(each) for each in unserved()]


def test_without_a_worker_all_waits_for_nobody() -> None:
    row = waiting()
    (found,) = unserved()
    assert str(found) == ("Tasks wait, and no worker runs. Start `python manage.py process_tasks`.")
    assert found.since == row.run_at


@pytest.mark.parametrize("values", [{}, {"queues": ["emails"]}, {"names": [task.name]}])
def test_what_a_worker_serves_is_served(values: dict[str, Any]) -> None:
    waiting(queue="emails")
    living(**values)
    assert texts() == []


@pytest.mark.parametrize(
    ("queue", "text"),
    [
        ("emails", "Tasks wait in the queue emails, and no worker that runs serves it. Start"),
        (None, "Tasks without a queue wait, and each worker that runs serves some queue only."),
    ],
)
def test_a_queue_that_nobody_serves_is_named(queue: str | None, text: str) -> None:
    waiting(queue=queue)
    waiting(queue=queue)
    waiting(queue="email")
    living(queues=["email"])
    (found,) = texts()
    assert found.startswith(text)


def test_a_task_that_nobody_knows_is_named() -> None:
    waiting()
    living(names=["another"])
    (found,) = texts()
    assert f"Tasks {task.name} wait, and no worker that runs knows this task." in found


def test_a_worker_whose_lease_has_run_out_serves_nobody() -> None:
    waiting()
    living(heartbeat_at=timezone.now() - timedelta(seconds=16))
    (found,) = texts()
    assert "no worker runs" in found


def test_what_need_not_be_served_yet_is_not_named() -> None:
    task(["now"])
    task(["later"], schedule=60)
    pauses.pause("slow")
    waiting(queue="slow")
    assert claims.claim_row(waiting(), TOKEN)
    assert texts() == []


def test_a_real_worker_says_what_it_knows(project: Deployment) -> None:
    worker = project.worker("--queue", "a,b")
    worker.wait_for("is ready")
    (row,) = project.rows("bgtasks_worker")
    assert "tests.bgtasks.project.tasks.work" in row["names"]
    worker.stop()
    eventually(lambda: not project.rows("bgtasks_worker"), "it leaves the table")


def test_several_queues_may_be_named_with_commas(project: Deployment) -> None:
    project.run("tasks.work(1, queue='a'); tasks.work(2, queue='b'); tasks.work(3, queue='c')")
    project.drain("--queue", "a, b")
    assert {line[1] for line in project.ledger("work")} == {"1", "2"}


def test_who_enqueues_while_no_worker_runs_is_warned_once_a_minute(project: Deployment) -> None:
    code = (
        "import logging; logging.basicConfig(format='%(message)s')\n"
        "from django.db import transaction\n"
        "with transaction.atomic():\n"
        "    tasks.work(1)\n"
        "    print('in the transaction', flush=True)\n"
        "tasks.work(2)\ntasks.work.map([3])\n"
    )
    process = project.python(code)
    assert process.wait() == 0
    warned = "Task tests.bgtasks.project.tasks.work is enqueued, and no worker runs. Start"
    assert process.output.count("no worker runs") == 1
    assert process.output.index("in the transaction") < process.output.index(warned)
    project.worker().wait_for("is ready")
    process = project.python(code)
    assert process.wait() == 0
    assert "no worker runs" not in process.output


def test_health_says_what_is_wrong_and_exits_with_1(project: Deployment) -> None:
    done = project.manage("task_health")
    assert (done.returncode, done.stdout) == (0, "Workers that run: 0. All that waits is served.\n")
    project.run("tasks.work(1)")
    done = project.manage("task_health", "--patience", "0")
    assert done.returncode == 1
    assert "Tasks wait, and no worker runs. Start `python manage.py" in done.stderr
    done = project.manage("task_health", "--patience", "0", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["workers"] == 0
    assert json.loads(done.stdout)["healthy"] is False
    assert "--patience is a number" in project.manage("task_health", "--patience", "nan").stderr
    project.database.query("DROP TABLE bgtasks_worker")
    done = project.manage("task_health", "--json")
    assert done.returncode == 1
    assert "The database does not answer, or is not migrated" in done.stdout


def test_checks_of_the_database_say_it_too(settings: Any) -> None:
    assert checks.rows_are_run(databases=["default"]) == []
    waiting()
    (found,) = checks.rows_are_run(databases=["default"])
    assert (found.id, found.msg) == ("bgtasks.W007", "Tasks wait, and no worker runs.")
    assert found.hint
    assert checks.rows_are_run() == []
