"""Django's own tasks in real workers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import django
import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import AsyncResult
from bgtasks.models import Outcome
from bgtasks.testing import eager
from tests.conftest import run_queued
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually

if django.VERSION >= (6,):
    from django import tasks as framework
    from django.tasks import exceptions
else:
    import django_tasks as framework
    from django_tasks import exceptions
from tests.bgtasks.dialects.django_tasks.helpers import (
    APP,
    BACKEND,
    FAILED,
    SUCCESSFUL,
    TASKS,
    backend,
    in_database,
)

Deploy = Callable[..., Deployment]


@pytest.fixture
def project(deploy: Deploy) -> Deployment:
    return deploy(TASKS=TASKS)


CONFIG = f"{APP}.DjangoTasks"


MORE = {"MORE_APPS": CONFIG if django.VERSION >= (6,) else f"django_tasks,{CONFIG}"}


PRELUDE = f"import json\nfrom {APP} import tasks\n"


READ = """
import json
from bgtasks.dialects.django_tasks.framework import TaskResultDoesNotExist
from MODULE import default_task_backend
result = default_task_backend.get_result("ID")
errors = [error.exception_class_path for error in result.errors]
value = result.return_value if result.status == "SUCCESSFUL" else None
print(json.dumps([result.status, value, errors, result.attempts]))
""".replace("MODULE", framework.__name__)


def enqueue(project: Deployment, call: str) -> str:
    """Enqueue; returns the id."""
    return project.run(f"{PRELUDE}print(tasks.{call}.id)", **MORE).split()[-1]


def look(project: Deployment, id_: str) -> Any:
    """What a process that imports no tasks reads: status, value, errors, attempts."""
    return json.loads(project.run(READ.replace("ID", id_), **MORE).splitlines()[-1])


def test_a_worker_runs_djangos_tasks_and_another_process_reads_what_came_of_them(
    project: Deployment,
) -> None:
    calls = ["double.enqueue(4)", "double_later.enqueue(5)", "fail.enqueue()", "counts.enqueue()"]
    ids = [enqueue(project, call) for call in calls]
    assert look(project, ids[0]) == ["READY", None, [], 0]
    project.drain(**MORE)
    assert look(project, ids[0]) == ["SUCCESSFUL", 8, [], 1]
    assert look(project, ids[1]) == ["SUCCESSFUL", 10, [], 1]
    assert look(project, ids[2]) == ["FAILED", None, [f"{APP}.tasks.Unlucky"], 1]
    assert look(project, ids[3]) == ["SUCCESSFUL", 0, [], 1]
    started = sorted(line[1:-1] for line in project.ledger("started"))
    assert started == [
        [name, "RUNNING", "None", "1"] for name in ("counts", "double", "double_later", "fail")
    ]
    finished = sorted(line[1:-1] for line in project.ledger("finished"))
    assert finished == [
        ["counts", "SUCCESSFUL", "None", "1"],
        ["double", "SUCCESSFUL", "None", "1"],
        ["double_later", "SUCCESSFUL", "None", "1"],
        ["fail", "FAILED", "Unlucky", "1"],
    ]


def test_a_worker_tells_coroutines_and_functions_their_context(project: Deployment) -> None:
    ids = [enqueue(project, f"{name}.enqueue('hello')") for name in ("told", "told_later")]
    project.drain(**MORE)
    for id_ in ids:
        status, value, _, _ = look(project, id_)
        assert status == "SUCCESSFUL"
        assert (value["id"], value["attempt"], value["word"]) == (id_, 1, "hello")
        assert datetime.fromisoformat(value["enqueued_at"]) <= timezone.now()


def test_an_app_that_stands_before_ours_declares_tasks_in_its_models(project: Deployment) -> None:
    first = {"ENGINE_APPS": f"{MORE['MORE_APPS']},bgtasks,background_task"}
    told = project.run(f"{PRELUDE}print(tasks.double.enqueue(4).status)", **first)
    assert told.split()[-1] == "READY"
    project.drain(**first)
    assert [row["result"] for row in project.rows("bgtasks_outcome")] == ["8"]


def test_a_worker_of_the_default_queue_alone_takes_them(project: Deployment) -> None:
    id_ = enqueue(project, "double.enqueue(4)")
    project.drain("--queue", "default", **MORE)
    assert look(project, id_)[0] == "SUCCESSFUL"


def test_a_worker_tries_again_as_often_as_the_task_says(project: Deployment) -> None:
    id_ = enqueue(project, "flaky.enqueue(3)")
    for _ in range(3):
        project.drain(**MORE)
        project.hurry()
    assert look(project, id_) == ["SUCCESSFUL", 3, [f"{APP}.tasks.Unlucky"] * 2, 3]
    assert [line[1:3] for line in project.ledger("finished")] == [["flaky", "SUCCESSFUL"]]


def test_a_coroutine_enqueues_another_task(project: Deployment) -> None:
    id_ = enqueue(project, "enqueues_another.enqueue(4)")
    project.drain(**MORE)
    assert look(project, look(project, id_)[1]) == ["SUCCESSFUL", 8, [], 1]


def test_p2_a_run_whose_worker_was_killed_is_repeated(project: Deployment) -> None:
    id_ = enqueue(project, "killed_at_first.enqueue()")
    project.worker(**MORE)
    ((*_, pid),) = project.wait_for("begin", "1")
    assert look(project, id_)[0] == "RUNNING"
    os.kill(int(pid), signal.SIGKILL)
    project.wait_for("finished")
    assert ended(project, id_) == [
        "SUCCESSFUL", 2, ["bgtasks.exceptions.TaskFailed"], 2
    ]  # fmt: skip
    assert [line[1:-1] for line in project.ledger("finished")] == [
        ["killed_at_first", "SUCCESSFUL", "None", "2"]
    ]


def ended(project: Deployment, id_: str) -> Any:
    """The signal of the end is sent a moment before that is recorded."""
    eventually(lambda: project.rows("bgtasks_outcome"), "an outcome")
    return look(project, id_)


def test_of_a_task_that_fails_with_its_worker_the_supervisor_tells(project: Deployment) -> None:
    id_ = enqueue(project, "killed_once.enqueue()")
    worker = project.worker(**MORE)
    ((*_, pid),) = project.wait_for("begin")
    os.kill(int(pid), signal.SIGKILL)
    ((*line, teller),) = project.wait_for("finished")
    assert line == ["finished", "killed_once", "FAILED", "None", "1"]
    assert int(teller) == worker.pid
    told = ended(project, id_)
    assert told == ["FAILED", None, ["bgtasks.exceptions.TaskFailed"], 1]


def test_a_coroutine_that_takes_too_long_has_failed(project: Deployment) -> None:
    id_ = enqueue(project, "endless.enqueue()")
    project.drain(**MORE)
    assert look(project, id_) == ["FAILED", None, ["bgtasks.exceptions.TaskTimeout"], 1]
    assert [line[1:3] for line in project.ledger("finished")] == [["endless", "FAILED"]]


def test_manage_py_check_names_a_wrong_option(deploy: Deploy) -> None:
    project = deploy(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": {"max_retries": 3}}})
    done = project.manage("check", **MORE)
    assert done.returncode != 0
    assert "bgtasks.E011" in done.stderr
    assert "max_retries" in done.stderr


def test_an_option_of_the_setting_holds_for_tasks_that_say_nothing(deploy: Deploy) -> None:
    options = {"max_attempts": 2, "backoff": 0}
    project = deploy(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": options}})
    id_ = enqueue(project, "fail.enqueue()")
    project.drain(**MORE)
    project.hurry()
    project.drain(**MORE)
    assert look(project, id_) == ["FAILED", None, [f"{APP}.tasks.Unlucky"] * 2, 2]


@in_database
def test_outcomes_are_those_of_all_tasks(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    run_queued()
    assert Outcome.objects.get(pk=int(result.id)).result == "8"
    assert AsyncResult(result.id).get() == 8


@in_database
def test_p10_the_class_of_an_error_is_never_imported_because_a_row_names_it(
    tasks: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "payload.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    result = tasks.fail.enqueue()
    run_queued()
    Outcome.objects.update(exception='{"type": "payload.X", "args": []}')
    result.refresh()
    assert result.errors[0].exception_class.__name__ == "TaskFailed"
    assert "payload" not in sys.modules
    Outcome.objects.update(exception=f'{{"type": "{__name__}.Outer.Inner", "args": []}}')
    result.refresh()
    assert result.errors[0].exception_class is Outer.Inner


class Outer:
    class Inner(Exception): ...


@in_database
def test_in_eager_mode_the_result_is_that_of_the_end(tasks: Any) -> None:
    with eager():
        result = tasks.double.enqueue(4)
    assert (result.status, result.return_value) == (SUCCESSFUL, 8)


@in_database
@pytest.mark.parametrize("result_id", ["1" * 5000, str(2**70), "\u00b2", ""])
def test_what_no_id_can_be_does_not_exist(result_id: str) -> None:
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        backend().get_result(result_id)


@in_database
def test_the_result_of_a_broken_row_can_be_read(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    Task.objects.update(task_params="garbage")
    run_queued()
    found = backend().get_result(result.id)
    assert (found.status, found.args) == (FAILED, [])
