"""The results of Django's own tasks."""

from __future__ import annotations

from typing import Any

import django
import pytest
from background_task.models import Task
from django.utils import timezone

from bgtasks import AsyncResult
from bgtasks.models import Attempt
from tests.conftest import run_queued

if django.VERSION >= (6,):
    from django import tasks as framework
    from django.tasks import exceptions
    from django.tasks.exceptions import InvalidTask
else:
    import django_tasks as framework
    from django_tasks import exceptions
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
from tests.bgtasks.dialects.django_tasks.helpers import (
    BACKEND,
    READY,
    RUNNING,
    SUCCESSFUL,
    TASKS,
    backend,
    in_database,
)


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
def test_a_row_that_was_sent_to_a_fleet_and_has_not_begun_is_ready(tasks: Any) -> None:
    result = tasks.double.enqueue(4)
    Task.objects.update(locked_by="bg~x.relay-1", locked_at=timezone.now())
    result.refresh()
    assert (result.status, result.attempts, result.worker_ids) == (READY, 0, [])
    assert result.started_at is None


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
