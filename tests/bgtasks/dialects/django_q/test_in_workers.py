"""Calls of the Django Q dialect in real workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from background_task.models import Task as Row
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError

from bgtasks import exceptions
from bgtasks.dialects import django_q
from bgtasks.dialects.django_q import async_task, fetch, result
from tests.bgtasks.dialects.django_q.helpers import APP, CALL, MULTIPLY, fail_for_good, queue
from tests.bgtasks.project.qapp import tasks as app
from tests.harness.deployment import Deployment
from tests.harness.process import children

MORE = {"MORE_APPS": APP}


def ask(project: Deployment, code: str) -> str:
    """Run code that may name the app's functions; returns what it prints."""
    names = (
        f"from {APP}.tasks import *\n"
        "from bgtasks.dialects.django_q import async_task, fetch, result\n"
    )
    return project.run(names + code, **MORE).strip()


def test_a_worker_runs_what_was_enqueued_and_its_hook(project: Deployment) -> None:
    project.worker(**MORE)
    code = "i = async_task(multiply, 4, 5, hook=tell); print(result(i, wait=-1), type(i).__name__)"
    assert ask(project, code) == "20 str"
    project.wait_for("told", MULTIPLY, "True", "1")


def test_a_worker_of_any_project_knows_the_runner(project: Deployment) -> None:
    ask(project, "async_task(multiply, 4, 5)")
    output = project.drain()  # its apps have no such function
    assert "ForbiddenFunction" in output
    (row,) = project.completed()
    assert "is no `tasks` module of an installed app" in row["last_error"]


def test_p10_a_worker_does_not_run_a_forged_row(project: Deployment, tmp_path: Path) -> None:
    code = f"""
from background_task.models import Task
for path in ("os.system", "{APP}.tasks.system", "posix.system"):
    Task.objects.new_task("{CALL}", [path, "touch {tmp_path}/owned"]).save()
"""
    project.run(code)
    project.drain(**MORE)
    assert not (tmp_path / "owned").exists()
    assert len(project.completed("failed_at IS NOT NULL")) == 3
    assert len(project.attempts()) == 3


def test_p2_what_ran_in_a_killed_worker_runs_again_and_its_hook_once(
    project: Deployment,
) -> None:
    worker = project.worker(**MORE)
    task_id = ask(project, "print(async_task(waits, 'key', hook=tell))")
    project.wait_for("begin", "key")
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    project.wait_for("begin", "key", count=2)
    Path(f"{project.ledger_path}.key").touch()
    code = f"t = fetch('{task_id}', wait=-1); print(t.success, t.attempt_count)"
    assert ask(project, code) == "True 2"
    assert worker.stop() == 0
    project.drain(**MORE)
    assert len(project.ledger("told")) == 1


@queue
def test_run_here_inside_a_transaction_its_own_error_is_raised() -> None:
    with pytest.raises(IntegrityError):
        async_task(f"{APP}.tasks.breaks_a_rule", sync=True, task_name="broken")
    assert Group.objects.count() == 0, "and the transaction goes on"
    assert fetch("broken").success is False  # type: ignore[union-attr]


@queue
def test_run_here_it_raises_what_was_raised_and_no_copy() -> None:
    with pytest.raises(ValidationError) as raised:
        async_task(f"{APP}.tasks.invalid", sync=True)
    assert raised.value.message_dict == {"name": ["not this"]}


@queue
def test_run_here_what_puts_itself_off_is_left_to_a_worker() -> None:
    task_id = async_task(f"{APP}.tasks.not_now", sync=True)
    assert (Row.objects.get().pk, result(task_id)) == (int(task_id), None)


@queue
@pytest.mark.parametrize("task_id", ["\u00b2", "1" * 5000, str(2**70), "-1", ""])
def test_what_no_id_can_be_is_nothing_known(task_id: str) -> None:
    assert fetch(task_id) is None


@queue
@pytest.mark.parametrize("params", ["garbage", "[[], {}]", "[1, 2]"])
def test_what_became_of_a_broken_row_can_be_read(params: str) -> None:
    task_id = async_task(MULTIPLY, 4, 5)
    Row.objects.update(task_params=params)
    fail_for_good()
    ended = fetch(task_id)
    assert ended is not None
    assert (ended.success, ended.args) == (False, [])


def test_what_a_package_of_tasks_imports_from_its_modules_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app.multiply, "__module__", f"{APP}.tasks.arithmetic")
    assert django_q.path_of(app.multiply) == MULTIPLY


def test_another_function_of_the_same_name_is_not_taken_for_it() -> None:
    def multiply(x: int, y: int) -> None: ...

    multiply.__module__, multiply.__qualname__ = f"{APP}.tasks", "multiply"
    with pytest.raises(exceptions.ForbiddenFunction, match="another function"):
        django_q.path_of(multiply)


def test_a_lambda_with_a_name_is_a_lambda() -> None:
    with pytest.raises(exceptions.ForbiddenFunction):
        django_q.path_of(f"{APP}.tasks.anonymous")
