"""Running Django's own tasks."""

from __future__ import annotations

from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from background_task.models import CompletedTask, Task
from background_task.tasks import tasks as registry
from django.utils import timezone

from bgtasks.tasks import policies
from tests.conftest import run_queued

if django.VERSION >= (6,):
    pass
else:
    pass
from tests.bgtasks.dialects.django_tasks.helpers import (
    APP,
    FAILED,
    READY,
    RUNNING,
    SUCCESSFUL,
    declare,
    in_database,
)


def with_context_alone(context: Any) -> int:
    return int(context.attempt)


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
