"""Django Q's words, on our rows; and that a row runs nothing but functions of ``tasks`` modules."""

from __future__ import annotations

import json
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from background_task.models import CompletedTask
from background_task.models import Task as Row
from background_task.tasks import tasks as registry
from django.apps import AppConfig, apps
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks import exceptions
from bgtasks.dialects import django_q
from bgtasks.dialects.django_q import async_task, fetch, result
from bgtasks.models import Attempt, CallOptions, Outcome
from tests.bgtasks.project.qapp import tasks as app
from tests.conftest import run_queued
from tests.harness.deployment import Deployment
from tests.harness.process import children

APP = "tests.bgtasks.project.qapp"
MORE = {"MORE_APPS": APP}
MULTIPLY, TELL, FAIL = (f"{APP}.tasks.{name}" for name in ("multiply", "tell", "fail"))
CALL = "bgtasks.dialects.django_q.call"


def install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install an app that has no models."""
    config = AppConfig(name, import_module(name))
    config.apps, config.models = apps, {}
    monkeypatch.setitem(apps.app_configs, name, config)


@pytest.fixture(autouse=True)
def _app(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    install(APP, monkeypatch)
    settings.LEDGER = str(tmp_path / "ledger")
    Path(settings.LEDGER).touch()


@pytest.fixture
def empty_queue(db: None) -> None:
    """The site's own hourly task is not in the way."""
    Row.objects.all().delete()


queue = pytest.mark.usefixtures("empty_queue")


def ledger(settings: Any) -> list[str]:
    """What the tasks have noted, without the pids."""
    lines = Path(settings.LEDGER).read_text().splitlines()
    return [line.rpartition(" ")[0] for line in lines]


def fail_for_good() -> None:
    """Run the waiting rows as often as they are tried."""
    for _ in range(30):
        run_queued()
        Row.objects.update(run_at="2000-01-01T00:00:00Z")


# --- enqueueing


@queue
@pytest.mark.parametrize("func", [app.multiply, MULTIPLY])
def test_a_function_or_its_path_is_one_insert(func: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1) as captured:
        task_id = async_task(func, 4, y=5)
    assert captured[0]["sql"].startswith("INSERT")
    row = Row.objects.get()
    assert (task_id, row.task_name, row.verbose_name) == (str(row.pk), CALL, MULTIPLY)
    assert row.params() == ([MULTIPLY, 4], {"y": 5})
    assert (result(task_id), fetch(task_id)) == (None, None)
    run_queued()
    assert (result(task_id), result(task_id, wait=-1)) == (20, 20)


@queue
@pytest.mark.parametrize("in_q_options", [False, True])
def test_options_are_two_inserts_and_are_not_arguments(in_q_options: bool) -> None:
    options = {"task_name": "a product", "timeout": 30, "hook": app.tell, "sync": False}
    given: Any = {"q_options": options} if in_q_options else options
    with CaptureQueriesContext(connection) as captured:
        async_task(MULTIPLY, 4, 5, **given)
    statements = [query["sql"].split()[0] for query in captured]
    assert statements == ["SAVEPOINT", "INSERT", "INSERT", "RELEASE"]
    row, kept = Row.objects.get(), json.loads(CallOptions.objects.get().options)
    assert (row.verbose_name, row.params()) == ("a product", ([MULTIPLY, 4, 5], {}))
    assert kept == {"timeout": 30, "hook": TELL, "then": "bgtasks.dialects.django_q.call_hook"}


@queue
def test_a_functions_arguments_may_have_any_other_name() -> None:
    words = {"path": 1, "func": 2, "queue": "q", "priority": 5, "schedule": 60, "task_id": 7}
    with pytest.raises(TypeError, match="func"):
        async_task(f"{APP}.tasks.named", **words)
    del words["func"]
    task_id = async_task(f"{APP}.tasks.named", **words)
    run_queued()
    assert result(task_id) == words


@queue
@pytest.mark.parametrize("func", [app.declared, f"{APP}.tasks.declared"])
def test_a_task_is_enqueued_itself(func: Any, settings: Any) -> None:
    task_id = async_task(func, 7, task_name="seven")
    row = Row.objects.get()
    assert (row.task_name, row.params()) == (f"{APP}.tasks.declared", ([7], {}))
    run_queued()
    ended = fetch(task_id)
    assert ended is not None
    assert (ended.func, ended.name, ended.args) == (row.task_name, "seven", [7])
    assert ledger(settings) == ["declared 7"]


@queue
def test_a_task_of_celerys_words_is_enqueued_itself_too(settings: Any) -> None:
    async_task(app.shared, 7)
    assert Row.objects.get().task_name == app.shared.name
    run_queued()
    assert ledger(settings) == ["shared 7 False"]


@queue
def test_a_function_that_became_a_task_meanwhile_runs_all_the_same(settings: Any) -> None:
    registry._tasks[CALL](f"{APP}.tasks.declared", 7)
    registry._tasks[CALL](f"{APP}.tasks.shared", 8)
    run_queued()
    assert ledger(settings) == ["declared 7", "shared 8 True"]


@queue
def test_coroutine_functions_run_too() -> None:
    task_id = async_task(f"{APP}.tasks.multiply_later", 4, 5)
    run_queued()
    assert result(task_id) == 20


@queue
@pytest.mark.parametrize("option", sorted(django_q.REFUSED))
def test_other_options_are_refused_by_name(option: str) -> None:
    for given in ({option: None}, {"q_options": {option: True}}):
        with pytest.raises(exceptions.UnknownOption, match=f"{option} is not supported"):
            async_task(MULTIPLY, 4, 5, **given)
    with pytest.raises(exceptions.UnknownOption, match="colour is not supported"):
        async_task(MULTIPLY, 4, 5, q_options={"colour": "red"})
    assert not Row.objects.exists()


@queue
def test_what_makes_no_sense_is_refused_at_the_call() -> None:
    with pytest.raises(exceptions.NotJSON, match=r"Argument 2 of .*multiply is a set"):
        async_task(MULTIPLY, 4, set())
    for name in ("17", "x" * 256, 17):
        with pytest.raises(exceptions.InvalidOption, match="task_name"):
            async_task(MULTIPLY, 4, 5, task_name=name)
    with pytest.raises(exceptions.InvalidOption, match="timeout"):
        async_task(MULTIPLY, 4, 5, timeout=-1)
    assert not Row.objects.exists()


@queue
def test_p1_a_call_of_a_transaction_that_is_rolled_back_leaves_nothing() -> None:
    with pytest.raises(LookupError), transaction.atomic():
        async_task(MULTIPLY, 4, 5, timeout=30)
        raise LookupError
    assert not Row.objects.exists()
    assert not CallOptions.objects.exists()


# --- what a path may name


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
    f"{APP}.tasks.Thing": "is no function but a type",
    f"{APP}.tasks.Thing.method": "is no `tasks` module",
    f"{APP}.tasks.cached": "is no function but a",
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


# --- what became of it


@queue
def test_what_is_fetched_tells_all(settings: Any) -> None:
    task_id = async_task(MULTIPLY, 4, y=5, task_name="a product")
    run_queued()
    ended, outcome = fetch(task_id), Outcome.objects.get()
    assert ended == django_q.EndedTask(
        id=task_id, name="a product", func=MULTIPLY, hook=None, args=[4], kwargs={"y": 5},
        result=20, success=True, started=outcome.started_at, stopped=outcome.finished_at,
        attempt_count=1,
    )  # fmt: skip
    assert fetch("a product") == fetch(int(task_id)) == ended


@queue
def test_a_failure_is_tried_again_and_then_its_traceback_is_the_result(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 3
    task_id = async_task(FAIL, "no")
    run_queued()
    assert fetch(task_id) is None
    fail_for_good()
    ended = fetch(task_id)
    assert (ended.success, ended.attempt_count) == (False, 3)
    assert result(task_id) == ended.result
    assert ended.result.startswith("Traceback")
    assert ended.result.strip().endswith("ValueError: no")


@queue
def test_a_result_that_is_not_json_is_a_failure() -> None:
    task_id = async_task(f"{APP}.tasks.unkeepable")
    run_queued()
    assert "returned a object" in result(task_id)
    assert not fetch(task_id).success


@queue
def test_of_several_of_a_name_the_last_to_end_is_fetched() -> None:
    for number in range(3):
        async_task(MULTIPLY, number, 10, task_name="tens")
        assert result("tens") == (None if number == 0 else (number - 1) * 10)
        run_queued()
    assert result("tens") == 20
    assert fetch("hundreds") is None


@queue
def test_of_what_nothing_is_known_nothing_comes_however_long_one_waits() -> None:
    assert (fetch("987654321", wait=-1), result("nobody", wait=-1)) == (None, None)
    task_id = async_task(MULTIPLY, 4, 5)
    run_queued()
    CompletedTask.objects.all().delete()
    assert fetch(task_id) is None


@queue
def test_to_wait_inside_a_transaction_is_refused() -> None:
    task_id = async_task(MULTIPLY, 4, 5)
    with pytest.raises(exceptions.WouldBlock):
        result(task_id, wait=100)


@pytest.mark.django_db(transaction=True)
def test_who_has_waited_long_enough_gets_nothing() -> None:
    task_id = async_task(MULTIPLY, 4, 5, task_name="late")
    assert (result(task_id, wait=1), fetch("late", wait=1)) == (None, None)


# --- hooks


@queue
def test_a_hook_is_told_of_a_success_and_of_a_failure(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 2
    async_task(MULTIPLY, 4, 5, hook=TELL, task_name="a product")
    fail_id = async_task(app.fail, "no", hook=app.tell)
    fail_for_good()
    assert ledger(settings) == [
        "multiply 4 5",
        f"told {MULTIPLY} True 1 a product",
        f"told {FAIL} False 2 {FAIL}",
    ]
    assert fetch(fail_id).hook == TELL


@queue
def test_a_hook_of_a_task_is_told_too_and_of_a_cancelled_one(settings: Any) -> None:
    task_id = async_task(app.declared, 7, hook=TELL)
    assert django_q.AsyncResult(task_id).revoke()
    run_queued()
    assert ledger(settings) == [f"told {APP}.tasks.declared False 0 {APP}.tasks.declared"]


@queue
def test_a_hook_that_fails_harms_nothing() -> None:
    task_id = async_task(MULTIPLY, 4, 5, hook=app.unsure)
    run_queued()
    assert fetch(task_id).success
    assert "LookupError" in Row.objects.get(task_name=django_q.call_hook.name).last_error


@queue
def test_a_hook_of_what_is_forgotten_is_cancelled() -> None:
    task_id = async_task(MULTIPLY, 4, 5, hook=TELL)
    registry.run_next_task()
    django_q.AsyncResult(task_id).forget()
    run_queued()
    (outcome,) = Outcome.objects.all()
    assert outcome.state == "cancelled"


# --- here and now


@pytest.mark.django_db(transaction=True)
def test_sync_runs_it_here_and_its_result_is_found(settings: Any) -> None:
    task_id = async_task(MULTIPLY, 4, 5, sync=True, hook=TELL, task_name="now")
    assert ledger(settings) == ["multiply 4 5", f"told {MULTIPLY} True 1 now"]
    ended = fetch(task_id)
    assert (ended.func, ended.result, ended.success) == (MULTIPLY, 20, True)
    assert result("now") == 20
    assert not Row.objects.filter(task_name__startswith="bgtasks").exists()


@queue
def test_sync_raises_what_it_raises_and_that_is_found_too(settings: Any) -> None:
    with pytest.raises(ValueError, match="no"):
        async_task(FAIL, "no", sync=True, task_name="now", hook=TELL)
    assert not Row.objects.exists()
    assert (fetch("now").success, fetch("now").attempt_count) == (False, 1)
    assert ledger(settings) == [f"told {FAIL} False 1 now"]
    assert Attempt.objects.count() == 1


@queue
def test_sync_runs_tasks_and_coroutine_functions_too(settings: Any) -> None:
    for func in (app.declared, app.shared):
        assert result(async_task(func, 7, q_options={"sync": True})) == 7
    assert result(async_task(app.multiply_later, 4, 5, sync=True, timeout=30)) == 20
    assert ledger(settings) == ["declared 7", "shared 7 True"]


# --- real workers


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
