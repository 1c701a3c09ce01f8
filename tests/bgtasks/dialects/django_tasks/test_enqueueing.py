"""Enqueueing Django's own tasks."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from datetime import timedelta
from functools import partial
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from background_task.models import CompletedTask, Task
from background_task.tasks import tasks as registry
from django.db import transaction
from django.utils import timezone

from bgtasks.models import CallOptions
from tests.conftest import run_queued

if django.VERSION >= (6,):
    from django import tasks as framework
    from django.tasks import base, exceptions
    from django.tasks.exceptions import InvalidTask
else:
    import django_tasks as framework
    from django_tasks import base, exceptions
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
from tests.bgtasks.dialects.django_tasks.helpers import (
    BACKEND,
    FAILED,
    READY,
    SUCCESSFUL,
    TASKS,
    in_database,
)


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
