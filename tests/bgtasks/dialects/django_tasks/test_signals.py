"""The signals of Django's own tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

import django
import pytest
from background_task.models import Task
from background_task.tasks import tasks as registry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks import AsyncResult
from bgtasks.tasks.decorator import background
from tests.conftest import run_queued

if django.VERSION >= (6,):
    from django.tasks import signals
else:
    from django_tasks import signals
from tests.bgtasks.dialects.django_tasks.helpers import (
    FAILED,
    READY,
    RUNNING,
    SUCCESSFUL,
    backend,
    in_database,
)


def doubled(number: int) -> int:
    return number * 2


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
