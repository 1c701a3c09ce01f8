"""Eager mode: each task runs inside the call that enqueues it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from background_task.models import CompletedTask, Task
from background_task.tasks import TaskSchedule
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from bgtasks import calls
from bgtasks.models import Attempt, Outcome
from bgtasks.testing import (
    eager,
    enqueued,
    run_pending,
)
from tests.bgtasks.testing.helpers import (
    coroutine,
    coroutine_of_coroutines,
    endless,
    fail,
    fail_for_good,
    note,
    ran,
    retry_at_once,
    unique,
    wait_inside,
)


def test_eager_runs_a_task_inside_its_call(either: None) -> None:
    with eager():
        result = note.delay("a")
        assert (ran, result.get(), result.status) == (["a"], "a", "SUCCESS")
    assert not Task.objects.exists()
    assert CompletedTask.objects.get().attempts == 1
    note("b")
    assert ran == ["a"]


def test_eager_works_in_an_open_transaction_and_goes_with_it(either: None) -> None:
    with eager(), suppress(ZeroDivisionError), transaction.atomic():
        assert note.delay("a").get() == "a"
        1 / 0  # noqa: B018
    assert not Outcome.objects.exists()


@pytest.mark.parametrize(
    "enqueue",
    [
        lambda: note("a"),
        lambda: note.delay("a"),
        lambda: note.apply_async(["a"], timeout=5),
        lambda: note.map(["a"]),
        lambda: note("a", remove_existing_tasks=True),
        lambda: note("a", schedule={"action": TaskSchedule.CHECK_EXISTING}),
        lambda: calls.submit(note, ["a"]),
    ],
)
def test_eager_holds_for_every_way_to_enqueue(either: None, enqueue: Callable[[], Any]) -> None:
    with eager():
        enqueue()
    assert ran == ["a"]


def test_eager_by_a_setting(either: None, settings: Any) -> None:
    settings.BGTASKS_EAGER = True
    assert coroutine.delay("a").get() == 1
    settings.BGTASKS_EAGER = False
    note("a")
    assert ran == ["a"]
    assert enqueued(note)


def test_the_row_that_a_call_returns_is_as_it_was_enqueued(either: None) -> None:
    with eager():
        row = note("a")
    assert (row.locked_by, row.attempts) == (None, 0)
    assert Outcome.objects.get().task_id == row.pk


def test_eager_raises_what_a_task_raises(either: None) -> None:
    with eager(), pytest.raises(ValueError, match="no"):
        fail()
    (row,) = Task.objects.all()
    assert (row.attempts, row.locked_by) == (1, None)
    assert Attempt.objects.exists()


def test_unless_it_is_told_not_to(either: None) -> None:
    with eager(propagate=False):
        again, ended = fail.delay(), fail_for_good.delay()
    assert (again.status, ended.status) == ("PENDING", "FAILURE")
    with pytest.raises(ValueError, match="for good"):
        ended.get()


def test_eager_leaves_what_is_for_later(either: None) -> None:
    with eager():
        result = note.apply_async(["later"], countdown=60)
    assert (ran, result.status) == ([], "PENDING")
    run_pending(include_later=True)
    assert result.get() == "later"


def test_eager_tries_again_at_once_what_may_be(either: None) -> None:
    with eager():
        assert retry_at_once.delay().get() == 3


def test_eager_tasks_may_wait_for_each_other(either: None) -> None:
    with eager():
        assert wait_inside.delay().get() == "inner"
        assert async_to_sync(sync_to_async(wait_inside.delay))().get() == "inner"


def test_eager_coroutines_may_wait_for_each_other(either: None) -> None:
    with eager():
        result = coroutine_of_coroutines.delay()
    assert (ran, result.get()) == (["inner"], 1)


def test_eager_runs_what_follows_a_call(either: None) -> None:
    with eager(), pytest.raises(ValueError, match="for good"):
        row = calls.submit(note, ["a"], options={"then": note.name})
        assert ran == ["a", row.pk]
        calls.submit(fail_for_good, options={"then": note.name})
    assert len(ran) == 4
    assert not Task.objects.exists()


def test_eager_calls_without_an_end_are_an_error(either: None) -> None:
    with eager(), pytest.raises(AssertionError, match=r"endless\(\)\. Does a task enqueue itself"):
        endless()


def test_eager_runs_a_unique_task_once_at_a_time(either: None) -> None:
    with eager():
        unique()
    assert ran == ["unique"]
    with eager():
        unique()
    assert ran == ["unique", "unique"]


@eager()
def run_decorated() -> Any:
    return note.delay("a").get()


def test_eager_is_a_decorator(either: None) -> None:
    assert run_decorated() == "a"
    note("b")
    assert ran == ["a"]


@eager()
class TestInTestCase(TestCase):
    def test_results_are_there(self) -> None:
        assert note.delay("a").get() == "a"


class TestPendingInTestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        Task.objects.all().delete()
        note("of the class")

    def test_rows_are_there(self) -> None:
        assert len(run_pending()) == 1

    def test_rows_are_there_again(self) -> None:
        assert len(run_pending()) == 1


class TestPendingInTransactionTestCase(TransactionTestCase):
    def test_rows_are_run(self) -> None:
        note("a")
        run_pending()
        assert ran == ["a"]
