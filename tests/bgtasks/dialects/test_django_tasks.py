"""Django's tasks on our rows: its documentation of them, point by point, and real workers."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from background_task.models import CompletedTask, Task
from background_task.tasks import tasks as registry
from django.apps import apps
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks import AsyncResult
from bgtasks.models import Attempt, CallOptions, Outcome
from bgtasks.tasks import policies
from bgtasks.tasks.decorator import background
from bgtasks.testing import eager
from tests.conftest import run_queued
from tests.harness.deployment import Deployment
from tests.harness.waiting import eventually

if django.VERSION >= (6,):
    from django import tasks as framework
    from django.tasks import base, exceptions, signals
    from django.tasks.exceptions import InvalidTask
else:
    import django_tasks as framework
    from django_tasks import base, exceptions, signals
    from django_tasks.exceptions import InvalidTaskError as InvalidTask

Deploy = Callable[..., Deployment]
BACKEND = "bgtasks.dialects.django_tasks.DatabaseBackend"
TASKS = {"default": {"BACKEND": BACKEND}}
APP = "tests.bgtasks.project.djangotasks"
READY, RUNNING, FAILED, SUCCESSFUL = (
    base.TaskResultStatus[name] for name in ("READY", "RUNNING", "FAILED", "SUCCESSFUL")
)


@pytest.fixture(autouse=True)
def _ours(request: pytest.FixtureRequest, settings: Any) -> None:
    settings.TASKS = TASKS
    if request.node.get_closest_marker("django_db"):
        Task.objects.all().delete()


@pytest.fixture
def tasks(_ours: None) -> Any:
    """The app's tasks, which are declared in the first test that uses them."""
    return importlib.import_module(f"{APP}.tasks")


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any, Any, type[BaseException] | None]]]:
    """What Django's signals tell: of which, by whom, the status, and the current exception."""
    heard: list[tuple[str, Any, Any, type[BaseException] | None]] = []
    receivers = []
    for name in ("enqueued", "started", "finished"):

        def hear(sender: type, task_result: Any, name: str = name, **kwargs: Any) -> None:
            heard.append((name, sender, task_result.status, sys.exc_info()[0]))

        getattr(signals, f"task_{name}").connect(hear)
        receivers.append(hear)
    yield heard
    for name, hear in zip(("enqueued", "started", "finished"), receivers, strict=True):
        assert getattr(signals, f"task_{name}").disconnect(hear)


in_database = pytest.mark.django_db


def backend() -> Any:
    return framework.task_backends["default"]


def declare(function: Any, **options: Any) -> Any:
    """As `@task` does. The function is this module's, whatever made it."""
    return framework.task(**options)(function)


def plain() -> None: ...


def other() -> None: ...


def with_context_alone(context: Any) -> int:
    return int(context.attempt)


def with_context(context: Any, number: int) -> None: ...


def a_generator() -> Iterator[None]:
    yield


def doubled(number: int) -> int:
    return number * 2


# --- the setting


def test_a_backend_is_found_by_its_alias_and_the_default_one_besides() -> None:
    assert type(backend()).__name__ == "DatabaseBackend"
    assert framework.default_task_backend.alias == backend().alias == "default"


def test_it_supports_all_that_a_backend_can() -> None:
    flags = [name for name in dir(backend()) if name.startswith("supports_")]
    assert sorted(flags) == [
        "supports_async_task", "supports_defer", "supports_get_result", "supports_priority"
    ]  # fmt: skip
    assert all(getattr(backend(), flag) for flag in flags)


def found(settings: Any, **options: Any) -> list[str]:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}
    return [f"{message.id} {message.msg}" for message in backend().check()]


def test_the_checks_find_nothing_wrong_with_a_right_setting(settings: Any) -> None:
    assert found(settings) == []
    assert found(settings, max_attempts=None, backoff=[1, 5], on_worker_lost="fail") == []


def test_the_checks_name_an_option_that_nobody_reads(settings: Any) -> None:
    (message,) = found(settings, max_attempts=3, max_retries=2, retries=4)
    assert message.startswith("bgtasks.E011")
    assert "max_retries, retries" in message
    assert 'TASKS["default"]' in message


def test_the_checks_refuse_an_option_that_makes_no_sense(settings: Any) -> None:
    (message,) = found(settings, max_attempts=0)
    assert message.startswith("bgtasks.E011")
    assert "max_attempts" in message


def test_the_checks_say_if_bgtasks_is_not_installed(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tasks: Any
) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "bgtasks")
    (message,) = found(settings)
    assert message.startswith("bgtasks.E010")
    with pytest.raises(django.core.exceptions.ImproperlyConfigured, match="bgtasks"):
        tasks.double.enqueue(1)


# --- defining


def test_the_decorator_makes_a_task(tasks: Any) -> None:
    assert isinstance(tasks.double, base.Task)
    assert (tasks.double.priority, tasks.double.queue_name) == (0, "default")
    assert (tasks.double.backend, tasks.double.run_after) == ("default", None)
    assert (tasks.double.name, tasks.double.takes_context) == ("double", False)
    assert tasks.double.module_path == f"{APP}.tasks.double"
    assert (tasks.urgent.priority, tasks.urgent.queue_name) == (5, "default")


def test_a_task_is_known_to_the_worker_when_it_is_declared(tasks: Any) -> None:
    assert registry._tasks[f"{APP}.tasks.double"].django_task is tasks.double


def test_a_task_cannot_be_changed(tasks: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        tasks.double.priority = 3


def test_using_makes_another_task_and_leaves_the_first(tasks: Any, settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": ["default", "slow"]}}
    moment = timezone.now()
    copy = tasks.double.using(priority=10, queue_name="slow", run_after=moment)
    assert (copy.priority, copy.queue_name, copy.run_after) == (10, "slow", moment)
    assert copy.func is tasks.double.func
    assert (tasks.double.priority, tasks.double.queue_name) == (0, "default")


def test_a_task_can_be_compared_hashed_and_copied(tasks: Any) -> None:
    assert tasks.flaky == replace(tasks.flaky)
    assert tasks.flaky != tasks.flaky.using(priority=1)
    assert len({tasks.flaky, replace(tasks.flaky)}) == 1
    changed = tasks.flaky.using(priority=3)
    assert deepcopy(changed) == changed
    if django.VERSION >= (6, 1):  # before, no task could be pickled
        assert pickle.loads(pickle.dumps(changed)) == changed
    assert hash(declare(with_context, takes_context=True, backoff=[1, 2]))


def test_a_function_inside_another_cannot_be_a_task() -> None:
    def nested() -> None: ...

    with pytest.raises(InvalidTask, match="module level"):
        declare(nested)


def test_what_would_never_run_cannot_be_a_task() -> None:
    a_lambda = lambda: None  # noqa: E731
    a_lambda.__qualname__ = "<lambda>"
    for function in (len, SimpleNamespace.__init__, a_generator, a_lambda):
        with pytest.raises(InvalidTask):
            declare(function)
    assert f"{__name__}.a_generator" not in registry._tasks


def test_a_task_that_takes_the_context_has_an_argument_for_it() -> None:
    with pytest.raises(InvalidTask, match="context"):
        declare(plain, takes_context=True)


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_a_priority_is_a_whole_number_from_minus_100_to_100(tasks: Any, priority: Any) -> None:
    with pytest.raises(InvalidTask, match="priority"):
        declare(plain, priority=priority)
    with pytest.raises(InvalidTask, match="priority"):
        tasks.double.using(priority=priority)


def test_a_queue_must_be_one_of_the_setting(tasks: Any, settings: Any) -> None:
    with pytest.raises(InvalidTask, match="'slow'"):
        tasks.double.using(queue_name="slow")
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": []}}
    assert tasks.double.using(queue_name="slow").queue_name == "slow"  # an empty list: any


def test_a_time_without_its_zone_is_refused(tasks: Any) -> None:
    with pytest.raises(InvalidTask, match="aware"):
        tasks.double.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001


def test_the_decorator_takes_no_time() -> None:
    with pytest.raises(TypeError):
        declare(plain, run_after=timezone.now())


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="max_retries"):
        declare(plain, max_retries=3)


def test_an_option_that_makes_no_sense_is_an_invalid_task() -> None:
    with pytest.raises(InvalidTask, match="max_attempts"):
        declare(plain, max_attempts=0)


def test_of_one_function_there_is_one_task(tasks: Any) -> None:
    first = declare(other, max_attempts=2)
    assert declare(other, max_attempts=2, priority=7).priority == 7
    with pytest.raises(InvalidTask, match="other options"):
        declare(other, max_attempts=3)
    assert policies.of(first.module_path).max_attempts == 2


def test_a_task_has_one_attempt_unless_it_or_the_setting_says_more(
    tasks: Any, settings: Any
) -> None:
    assert policies.of(tasks.double.module_path).max_attempts == 1
    assert policies.of(tasks.flaky.module_path).max_attempts == 3
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": {"max_attempts": 4}}}
    assert backend().policy(tasks.double).max_attempts == 4
    assert backend().policy(tasks.flaky).max_attempts == 3
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": {"max_attempts": None}}}
    assert backend().policy(tasks.double).most_attempts == 25


def test_a_task_of_another_backend_is_refused_for_no_worker_would_know_it(
    tasks: Any, settings: Any
) -> None:
    dummy = f"{framework.__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {**TASKS, "dummy": {"BACKEND": dummy}}
    task = declare(plain, backend="dummy")
    with pytest.raises(InvalidTask, match=r'@task\(backend="default"\)'):
        task.using(backend="default")
    assert tasks.double.using(backend="dummy").enqueue(1).status == READY


# --- enqueueing


@in_database
def test_enqueueing_takes_one_statement(tasks: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        tasks.double.enqueue(4)
    with django_assert_num_queries(1):
        tasks.double.using(run_after=timezone.now() + timedelta(days=1), priority=3).enqueue(4)
    assert not CallOptions.objects.exists()


@in_database
def test_p1_a_task_exists_if_its_transaction_commits(tasks: Any) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        result = tasks.double.enqueue(4)
        assert tasks.double.get_result(result.id).status == READY
        _ = 1 / 0
    assert not Task.objects.exists()
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        tasks.double.get_result(result.id)


@in_database
def test_a_task_can_be_enqueued_on_commit(
    tasks: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        transaction.on_commit(partial(tasks.double.enqueue, number=4))
        assert not Task.objects.exists()
    assert Task.objects.get().params() == ([], {"number": 4})


@in_database
def test_a_new_result_has_what_was_enqueued(tasks: Any) -> None:
    before = timezone.now()
    result = tasks.double.enqueue([1, (2, 3)])
    assert isinstance(result, base.TaskResult)
    assert result.task == tasks.double
    assert result.id == str(Task.objects.get().pk)
    assert (result.status, result.is_finished, result.attempts) == (READY, False, 0)
    assert (result.args, result.kwargs) == ([[1, [2, 3]]], {})
    assert (result.backend, result.errors, result.worker_ids) == ("default", [], [])
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    assert before <= result.enqueued_at <= timezone.now()
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    with pytest.raises(FrozenInstanceError):
        result.status = SUCCESSFUL


@in_database
def test_arguments_are_passed_on_as_they_are(tasks: Any) -> None:
    by_name = tasks.double.enqueue(number="a")
    by_place = tasks.double.enqueue({"b": [1.5, None, True]}["b"])
    run_queued()
    assert tasks.double.get_result(by_name.id).return_value == "aa"
    assert tasks.double.get_result(by_place.id).return_value == [1.5, None, True] * 2


@in_database
def test_arguments_that_are_not_json_are_refused_and_nothing_is_enqueued(tasks: Any) -> None:
    for argument in (timezone.now(), object(), {1, 2}, Task()):
        with pytest.raises(TypeError, match="double is not JSON"):
            tasks.double.enqueue(argument)
    with pytest.raises(ValueError, match="bytes"):
        tasks.double.enqueue(b"\xff")
    assert not Task.objects.exists()


@in_database
def test_a_tuple_comes_back_as_a_list(tasks: Any) -> None:
    result = tasks.double_dictionary.enqueue((1, 2, 3))
    run_queued()
    result.refresh()
    assert result.status == FAILED
    assert result.errors[0].exception_class is TypeError
    assert "unhashable type" in result.errors[0].traceback


@in_database
def test_a_coroutine_enqueues_and_reads_too(tasks: Any) -> None:
    async def all_of_it() -> Any:
        result = await tasks.double.aenqueue(4)
        same = await tasks.double.aget_result(result.id)
        assert await framework.default_task_backend.aget_result(result.id) == same
        await same.arefresh()
        return same

    result = async_to_sync(all_of_it)()
    assert (result.status, result.args) == (READY, [4])


@in_database
def test_a_task_for_later_is_not_run_before(tasks: Any) -> None:
    later = timezone.now() + timedelta(days=1)
    result = tasks.double.using(run_after=later).enqueue(4)
    run_queued()
    read = tasks.double.get_result(result.id)
    assert (read.status, read.task.run_after) == (READY, later)
    assert (read.enqueued_at, read.task.name) == (result.enqueued_at, "double")
    Task.objects.update(run_at=timezone.now())
    run_queued()
    read.refresh()
    assert (read.status, read.enqueued_at) == (SUCCESSFUL, result.enqueued_at)


@in_database
@pytest.mark.parametrize("ordering", ["DESC", "ASC"])
def test_a_higher_priority_runs_first(tasks: Any, settings: Any, ordering: str) -> None:
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = ordering
    results = [
        tasks.double.using(priority=priority).enqueue(priority) for priority in (-100, 0, 100, 7)
    ]
    read = [tasks.double.get_result(result.id) for result in results]
    assert [result.task.priority for result in read] == [-100, 0, 100, 7]
    run_queued()
    order = CompletedTask.objects.order_by("pk").values_list("task_params", flat=True)
    assert [json.loads(params)[0] for params in order] == [[100], [7], [0], [-100]]


@in_database
def test_a_queue_is_a_queue_of_the_worker_the_default_one_too(tasks: Any, settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": ["default", "slow"]}}
    slow = tasks.double.using(queue_name="slow").enqueue(1)
    fast = tasks.double.enqueue(2)
    assert registry.run_next_task("default")
    assert not registry.run_next_task("default")
    assert tasks.double.get_result(fast.id).status == SUCCESSFUL
    assert tasks.double.get_result(slow.id).status == READY
    settings.TASKS = TASKS  # a queue that is no more keeps nobody from reading
    assert tasks.double.get_result(slow.id).task.queue_name == "slow"
    with pytest.raises(InvalidTask):
        tasks.double.get_result(slow.id).task.enqueue(1)


@in_database
def test_of_a_unique_task_one_waits(tasks: Any, told: list[Any]) -> None:
    first, second = (tasks.once.enqueue("a") for _ in range(2))
    third = tasks.once.enqueue("b")
    assert first.id == second.id != third.id
    assert second.enqueued_at == first.enqueued_at
    assert Task.objects.count() == 2
    assert [name for name, *_ in told] == ["enqueued"] * 2


@in_database
def test_a_result_id_is_a_short_text(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    assert isinstance(result.id, str)
    assert len(result.id) < 64


# --- running


def test_a_task_can_be_called_here(tasks: Any) -> None:
    assert tasks.double.call(4) == tasks.double_later.call(4) == 8

    async def both() -> tuple[int, int]:
        return await tasks.double.acall(4), await tasks.double_later.acall(number=4)

    assert async_to_sync(both)() == (8, 8)


@in_database
@pytest.mark.parametrize("name", ["double", "double_later"])
def test_a_result_tells_of_a_success(tasks: Any, name: str) -> None:
    task = getattr(tasks, name)
    result = task.enqueue(4)
    before = timezone.now()
    run_queued()
    read = task.get_result(result.id)
    assert (read.status, read.is_finished, read.return_value) == (SUCCESSFUL, True, 8)
    assert before <= read.started_at == read.last_attempted_at
    assert read.enqueued_at == result.enqueued_at
    assert read.finished_at is not None
    assert read.errors == []
    assert read.worker_ids == [CompletedTask.objects.get().locked_by]
    assert read.attempts == 1
    assert (read.args, read.kwargs, read.backend, read.id) == ([4], {}, "default", result.id)


@in_database
def test_a_result_is_as_it_was_until_it_is_refreshed(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    run_queued()
    assert result.status == READY
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 8, 1)


@in_database
@pytest.mark.parametrize("name", ["fail", "fail_later"])
def test_a_result_tells_of_a_failure(tasks: Any, name: str) -> None:
    result = getattr(tasks, name).enqueue()
    run_queued()
    result.refresh()
    assert (result.status, result.is_finished, result.attempts) == (FAILED, True, 1)
    (error,) = result.errors
    assert error.exception_class is tasks.Unlucky
    assert error.exception_class_path == f"{APP}.tasks.Unlucky"
    assert error.traceback.startswith("Traceback (most recent call last)")
    assert f"in {name}" in error.traceback
    assert result.finished_at is not None
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value
    assert not Task.objects.exists(), "Django promises no second attempt"


@in_database
@pytest.mark.parametrize("name", ["told", "told_later"])
def test_a_task_that_takes_the_context_knows_its_result(tasks: Any, name: str) -> None:
    result = getattr(tasks, name).enqueue("hello")
    run_queued()
    result.refresh()
    assert result.return_value == {
        "word": "hello",
        "attempt": 1,
        "id": result.id,
        "status": "RUNNING",
        "enqueued_at": result.enqueued_at.isoformat(),
        "started_at": result.started_at.isoformat(),
        "args": ["hello"],
        "worker_ids": result.worker_ids,
        "task": name,
    }


@in_database
def test_a_failed_attempt_is_kept_and_the_task_is_ready_again(tasks: Any) -> None:
    result = tasks.flaky.enqueue(3)
    for attempt in (1, 2):
        assert registry.run_next_task()
        result.refresh()
        assert (result.status, result.attempts) == (READY, attempt)
        assert (result.finished_at, result.is_finished) == (None, False)
        Task.objects.update(run_at=timezone.now())
    assert result.last_attempted_at > result.started_at
    run_queued()
    last, result = result, tasks.flaky.get_result(result.id)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 3)
    assert [error.exception_class for error in result.errors] == [tasks.Unlucky] * 2
    assert ["attempt 2" in error.traceback for error in result.errors] == [False, True]
    assert result.started_at == last.started_at
    assert result.last_attempted_at > last.last_attempted_at
    assert len(result.worker_ids) == 3
    assert result.enqueued_at == last.enqueued_at


@in_database
def test_every_error_of_a_task_that_fails_for_good_is_kept(tasks: Any) -> None:
    result = tasks.flaky.enqueue(9)
    while Task.objects.exists():
        Task.objects.update(run_at=timezone.now())
        run_queued()
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 3, 3)


@in_database
def test_what_a_task_returns_goes_through_json(tasks: Any) -> None:
    a_tuple, some_bytes, keys = (tasks.returns.enqueue(name) for name in ("tuple", "bytes", "nan"))
    run_queued()
    assert tasks.returns.get_result(a_tuple.id).return_value == [1, 2]
    assert tasks.returns.get_result(some_bytes.id).return_value == "abc"
    assert tasks.returns.get_result(keys.id).return_value == {"1": 2}


@in_database
def test_a_result_that_is_not_json_fails_the_task(tasks: Any, told: list[Any]) -> None:
    result = tasks.returns.enqueue("object")
    run_queued()
    result.refresh()
    assert result.status == FAILED
    assert issubclass(result.errors[0].exception_class, TypeError)
    assert "is not JSON" in result.errors[0].traceback
    assert [(name, status) for name, _, status, _ in told][1:] == [
        ("started", RUNNING), ("finished", FAILED)
    ]  # fmt: skip


@in_database
def test_a_result_that_nobody_wants_may_be_anything(tasks: Any) -> None:
    result = tasks.returns_what_nobody_keeps.enqueue()
    run_queued()
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, None)


@in_database
def test_what_a_cron_line_enqueues_is_run_as_any_other() -> None:
    task = declare(with_context_alone, takes_context=True, cron="@yearly")
    try:
        row = registry._tasks[task.module_path]()  # as the worker does
        run_queued()
        result = task.get_result(str(row.pk))
    finally:
        del registry._tasks[task.module_path], policies._policies[task.module_path]
    assert (result.status, result.return_value, result.enqueued_at) == (SUCCESSFUL, 1, None)


# --- signals


@in_database
def test_signals_tell_of_a_success(tasks: Any, told: list[Any]) -> None:
    tasks.double.enqueue(4)
    assert [(name, status) for name, _, status, _ in told] == [("enqueued", READY)]
    run_queued()
    assert [(name, status, error) for name, _, status, error in told[1:]] == [
        ("started", RUNNING, None), ("finished", SUCCESSFUL, None)
    ]  # fmt: skip
    assert {sender for _, sender, _, _ in told} == {type(backend())}


@in_database
@pytest.mark.parametrize("name", ["fail", "fail_later"])
def test_the_signal_of_a_failure_is_sent_while_it_is_handled(
    tasks: Any, told: list[Any], name: str
) -> None:
    getattr(tasks, name).enqueue()
    run_queued()
    assert [(name, status, error) for name, _, status, error in told[1:]] == [
        ("started", RUNNING, None), ("finished", FAILED, tasks.Unlucky)
    ]  # fmt: skip


@in_database
def test_an_attempt_that_is_not_the_last_has_not_finished(tasks: Any, told: list[Any]) -> None:
    tasks.flaky.enqueue(2)
    assert registry.run_next_task()
    assert [name for name, *_ in told] == ["enqueued", "started"]
    Task.objects.update(run_at=timezone.now())
    run_queued()
    assert [name for name, *_ in told] == ["enqueued", "started", "started", "finished"]
    assert told[-1][2] == SUCCESSFUL


@in_database
def test_a_receiver_sees_the_whole_result(tasks: Any) -> None:
    seen: list[Any] = []

    def see(task_result: Any, **kwargs: Any) -> None:
        seen.append((task_result.enqueued_at, task_result.attempts, task_result.return_value))

    signals.task_finished.connect(see)
    try:
        result = tasks.double.enqueue(4)
        run_queued()
    finally:
        signals.task_finished.disconnect(see)
    assert seen == [(result.enqueued_at, 1, 8)]


@in_database
def test_a_receiver_that_raises_changes_nothing(tasks: Any) -> None:
    def raise_it(**kwargs: Any) -> None:
        raise RuntimeError("a receiver's")

    both = (signals.task_started, signals.task_finished)
    for signal_ in both:
        signal_.connect(raise_it)
    try:
        result = tasks.double.enqueue(4)
        run_queued()
    finally:
        for signal_ in both:
            signal_.disconnect(raise_it)
    result.refresh()
    assert result.status == SUCCESSFUL


@in_database
def test_a_task_that_is_called_off_has_finished_and_says_why(tasks: Any, told: list[Any]) -> None:
    result = tasks.double.enqueue(4)
    assert AsyncResult(result.id).revoke()
    result.refresh()
    assert (result.status, result.attempts, result.started_at) == (FAILED, 0, None)
    assert result.errors[0].exception_class.__name__ == "TaskRevoked"
    assert "revoked" in result.errors[0].traceback
    assert [(name, status) for name, _, status, _ in told][1:] == [("finished", FAILED)]


@pytest.mark.django_db(transaction=True)
def test_a_run_that_leaves_a_transaction_open_is_told_once_as_a_failure(
    tasks: Any, told: list[Any]
) -> None:
    result = tasks.leaves_a_transaction_open.enqueue()
    run_queued()
    result.refresh()
    assert result.status == FAILED
    assert result.errors[0].exception_class.__name__ == "LeakedTransaction"
    assert [(name, status) for name, _, status, _ in told][1:] == [
        ("started", RUNNING), ("finished", FAILED)
    ]  # fmt: skip


@in_database
def test_to_run_one_takes_as_many_statements_as_to_run_any_other(tasks: Any) -> None:
    any_other = background(name="any_other")(doubled)
    counted = []
    for enqueue_it in (partial(any_other, 4), partial(tasks.double.enqueue, 4)):
        enqueue_it()
        with CaptureQueriesContext(connection) as queries:
            assert registry.run_next_task()
        counted.append(len(queries))
    del registry._tasks["any_other"]
    assert counted[0] == counted[1]


# --- results


@in_database
@pytest.mark.parametrize("id_", ["999999999", "9" * 40, "-1", "", "seven", "٤", 0])
def test_an_unknown_id_has_no_result(tasks: Any, id_: Any) -> None:
    for ask in (tasks.double.get_result, framework.default_task_backend.get_result):
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            ask(id_)


@in_database
def test_a_result_of_another_task_does_not_match(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    with pytest.raises(exceptions.TaskResultMismatch):
        tasks.fail.get_result(result.id)
    assert framework.default_task_backend.get_result(result.id).task.func == tasks.double.func


@in_database
def test_a_row_that_was_enqueued_in_other_words_has_no_result_here(tasks: Any) -> None:
    row = Task.objects.new_task("signup.tasks.sweep_files")
    row.save()
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        backend().get_result(str(row.pk))


@in_database
def test_what_was_forgotten_has_no_result(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    run_queued()
    AsyncResult(result.id).forget()
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        result.refresh()


@in_database
def test_reading_a_result_takes_few_statements(tasks: Any, django_assert_num_queries: Any) -> None:
    result = tasks.double.enqueue(4)
    with django_assert_num_queries(2):
        result.refresh()
    run_queued()
    with django_assert_num_queries(3):
        result.refresh()


@in_database
def test_a_second_backend_reads_the_same_rows(tasks: Any, settings: Any) -> None:
    settings.TASKS = {**TASKS, "second": {"BACKEND": BACKEND}}
    result = tasks.double.using(backend="second", priority=7).enqueue(4)
    assert result.backend == "second"
    assert framework.task_backends["second"].get_result(result.id).backend == "second"
    assert framework.task_backends["default"].get_result(result.id).backend == "default"


@in_database
def test_a_task_is_not_run_by_the_options_of_another_backend(tasks: Any, settings: Any) -> None:
    settings.TASKS = {**TASKS, "patient": {"BACKEND": BACKEND, "OPTIONS": {"max_attempts": 9}}}
    with pytest.raises(InvalidTask, match="OPTIONS of 'patient'"):
        tasks.double.using(backend="patient")


@in_database
def test_a_row_that_is_held_is_running(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    Task.objects.update(locked_by="bg~x.1-1", locked_at=timezone.now(), attempts=1)
    result.refresh()
    assert (result.status, result.attempts, result.worker_ids) == (RUNNING, 1, ["bg~x.1-1"])
    assert result.started_at == result.last_attempted_at == result.enqueued_at
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value


@in_database
def test_a_run_that_was_lost_counts_as_an_error(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    noticed = timezone.now()
    Task.objects.update(attempts=1)
    Attempt.objects.create(
        task_id=result.id, number=1, state="lost", claim="bg~x.1-1", ended_at=noticed, error="Lost."
    )
    result.refresh()
    assert (result.status, result.attempts, result.worker_ids) == (READY, 1, ["bg~x.1-1"])
    assert result.started_at == result.last_attempted_at == noticed
    assert [error.exception_class.__name__ for error in result.errors] == ["TaskFailed"]
    run_queued()
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (SUCCESSFUL, 2, 1)
    assert result.last_attempted_at > noticed == result.started_at


# --- what a traceback says


class Odd(Exception):
    class Inner(Exception): ...


def caught(raise_it: Callable[[], Any]) -> BaseException:
    try:
        raise_it()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def chained() -> None:
    try:
        _ = {}["missing"]
    except KeyError as error:
        raise Odd("because\nbuiltins.Nothing: of this") from error


def raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("raise_it", "path"),
    [
        (lambda: 1 / 0, "builtins.ZeroDivisionError"),
        (lambda: compile("1 +", "x", "exec"), "builtins.SyntaxError"),
        (raising(KeyboardInterrupt()), "builtins.KeyboardInterrupt"),
        (raising(Odd.Inner("text: of: many: colons")), f"{__name__}.Odd.Inner"),
        (chained, f"{__name__}.Odd"),
    ],
)
def test_the_class_of_an_exception_is_read_from_its_traceback(
    raise_it: Callable[[], Any], path: str
) -> None:
    from bgtasks.dialects.django_tasks.runs import raised

    assert raised("".join(traceback.format_exception(caught(raise_it)))) == path


def test_of_a_story_that_is_no_traceback_there_is_no_class() -> None:
    from bgtasks.dialects.django_tasks.runs import raised

    assert raised("") is None
    assert raised("Its worker was told to end while this ran.") is None


# --- real workers


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
