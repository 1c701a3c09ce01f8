"""What a path may name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from background_task.models import CompletedTask
from background_task.models import Task as Row
from django.utils import timezone

from bgtasks import exceptions
from bgtasks.dialects import django_q
from bgtasks.dialects.django_q import async_task, result
from bgtasks.models import CallOptions, Outcome
from tests.bgtasks.dialects.django_q.helpers import APP, MULTIPLY, TELL, install, queue
from tests.bgtasks.project.qapp import tasks as app
from tests.conftest import run_queued

FORBIDDEN = {
    "os.system": "os is no `tasks` module",
    "system": "system is no `tasks` module",
    "": "is no `tasks` module",
    "tasks.run": "tasks is no `tasks` module",
    "json.tasks.loads": "json.tasks is no `tasks` module",
    "bgtasks.tasks.autodiscover": "bgtasks.tasks is no `tasks` module",
    "background_task.tasks.autodiscover": "background_task.tasks is no `tasks` module",
    "bgtasks.dialects.django_q.call": "is no `tasks` module",
    "django.contrib.auth.get_user_model": "is no `tasks` module",
    "django.contrib.auth.tasks.run": "django.contrib.auth has no `tasks` module",
    f"{APP}.tasks.os.system": "is no `tasks` module",
    f"{APP}.tasks.system": "system is not declared in",
    f"{APP}.tasks.working_directory": "is not declared in",
    f"{APP}.tasks.background": "is not declared in",
    f"{APP}.tasks.missing": "is not declared in",
    f"{APP}.tasks.number": "is not declared in",
    f"{APP}.tasks.squared": "is not declared in",
    f"{APP}.tasks.Thing": "is no function: its type is type",
    f"{APP}.tasks.Thing.method": "is no `tasks` module",
    f"{APP}.tasks.cached": "is no function: its type is",
    f"{APP}.tasks.__builtins__.eval": "is no `tasks` module",
}


# Whoever has newer code may have these.
MISSING = ["django.contrib.auth.tasks.run", f"{APP}.tasks.missing"]


@queue
@pytest.mark.parametrize("path", FORBIDDEN)
def test_p10_other_paths_are_refused_at_the_call_and_as_hooks(path: str) -> None:
    with pytest.raises(exceptions.ForbiddenFunction, match=FORBIDDEN[path]):
        async_task(path, "echo")
    with pytest.raises(exceptions.ForbiddenFunction, match=FORBIDDEN[path]):
        async_task(MULTIPLY, 4, 5, hook=path)
    with pytest.raises(exceptions.ForbiddenFunction, match=FORBIDDEN[path]):
        async_task(path, sync=True)
    assert not Row.objects.exists()


def here() -> None: ...


@queue
@pytest.mark.parametrize(
    "function",
    [os.system, print, here, lambda: 1, app.anonymous, app.Thing.method, app.Thing().method,
     app.Thing, app.squared, app.cached, 7],
)  # fmt: skip
def test_p10_other_functions_are_refused_at_the_call(function: Any) -> None:
    with pytest.raises(exceptions.ForbiddenFunction, match="is not run"):
        async_task(function)
    assert not Row.objects.exists()


@queue
@pytest.mark.parametrize("path", sorted(FORBIDDEN.keys() - MISSING))
@pytest.mark.parametrize("runner", ["call", "call_once"])
def test_p10_a_row_that_somebody_wrote_by_hand_runs_nothing(path: str, runner: str) -> None:
    name = f"bgtasks.dialects.django_q.{runner}"
    row = Row.objects.new_task(name, [path, "exit 3"])
    row.save()
    run_queued()
    outcome = Outcome.objects.get(pk=row.pk)
    assert (outcome.state, outcome.attempts) == ("failed", 1)
    assert FORBIDDEN[path] in CompletedTask.objects.get().last_error


@queue
@pytest.mark.parametrize("path", MISSING)
def test_p2_a_function_that_this_worker_is_too_old_for_is_waited_for(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = Row.objects.new_task(django_q.call.name, [path])
    row.save()
    run_queued()
    row.refresh_from_db()
    assert (row.attempts, row.locked_by) == (0, None)
    assert row.run_at > timezone.now()
    assert "restart the workers" in caplog.text


@queue
def test_p10_a_hook_that_somebody_wrote_by_hand_runs_nothing() -> None:
    task_id = async_task(MULTIPLY, 4, 5, hook=TELL)
    options = CallOptions.objects.get()
    CallOptions.objects.update(options=options.options.replace(TELL, "os.system"))
    run_queued()
    assert result(task_id) == 20
    ended = CompletedTask.objects.get(task_name=django_q.call_hook.name)
    assert "ForbiddenFunction" in ended.last_error


@queue
@pytest.mark.parametrize("params", ["[[], {}]", "[[5], {}]", '[[["os.system"]], {}]'])
def test_p10_a_row_without_a_path_fails(params: str) -> None:
    row = Row.objects.new_task("bgtasks.dialects.django_q.call_once", [])
    row.task_params = params
    row.save()
    run_queued()
    assert Outcome.objects.get(pk=row.pk).state == "failed"


def test_an_error_inside_a_tasks_module_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken_shop"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "tasks.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("broken_shop", monkeypatch)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        async_task("broken_shop.tasks.send")
