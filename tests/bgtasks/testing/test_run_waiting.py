"""Running what waits, in both kinds of test."""

from __future__ import annotations

from typing import Any

import pytest
from background_task import signals
from background_task.models import CompletedTask, Task
from django.utils import timezone

from bgtasks import calls
from bgtasks.models import Outcome
from bgtasks.testing import (
    run_pending,
)
from tests.bgtasks.testing.helpers import NAME, chain, endless, later, note, ran


def test_what_waits_is_run_and_its_results_are_there(either: None) -> None:
    first, second = note.delay("a"), note.delay({"b": 1})
    assert run_pending() == [first, second]
    assert (first.get(), second.get(), ran) == ("a", {"b": 1}, ["a", {"b": 1}])
    assert not Task.objects.exists()
    assert CompletedTask.objects.count() == Outcome.objects.count() == 2
    assert run_pending() == []


def test_the_most_urgent_is_first_then_who_waits_longest(either: None) -> None:
    note("new")
    note("urgent", priority=5)
    note("old", schedule=later(minutes=-5))
    run_pending()
    assert ran == ["urgent", "old", "new"]


def test_priorities_may_be_nice_values(either: None, settings: Any) -> None:
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    note("second", priority=5)
    note("first", priority=-5)
    run_pending()
    assert ran == ["first", "second"]


def test_only_a_queue(either: None) -> None:
    note("mail", queue="mail")
    note("default")
    run_pending(queue="mail")
    assert ran == ["mail"]
    run_pending()
    assert ran == ["mail", "default"]


def test_what_is_enqueued_meanwhile_is_run_too(either: None) -> None:
    chain(3)
    assert len(run_pending()) == 4
    assert ran == [3, 2, 1, 0]


def test_a_chain_without_an_end_is_an_error(either: None) -> None:
    endless()
    with pytest.raises(AssertionError, match=rf"7 rows were run, and {NAME}\.endless\(\) is still"):
        run_pending(limit=7)
    assert Outcome.objects.count() == 7
    (row,) = Task.objects.all()
    assert row.locked_by is None


def test_no_more_rows_than_the_limit_is_no_error(either: None) -> None:
    chain(3)
    assert len(run_pending(limit=4)) == 4


def test_what_follows_a_call_is_run(either: None) -> None:
    row = calls.submit(note, ["a"], options={"then": note.name})
    run_pending()
    assert ran == ["a", row.pk]


def test_a_row_that_a_worker_holds_is_left_alone(either: None) -> None:
    row = note("held")
    Task.objects.filter(pk=row.pk).update(locked_by="bg~other.1-1", locked_at=timezone.now())
    assert run_pending() == []
    assert Task.objects.filter(locked_by="bg~other.1-1").exists()


def test_rows_of_unknown_tasks_wait(either: None) -> None:
    Task.objects.new_task("of.another.deployment").save()
    assert run_pending() == []
    assert Task.objects.exists()


def test_the_signals_of_a_worker_are_sent(either: None) -> None:
    heard = []

    def successful(completed_task: CompletedTask, **_: Any) -> None:
        heard.append(completed_task.task_name)

    signals.task_successful.connect(successful)
    try:
        note("a")
        run_pending()
    finally:
        signals.task_successful.disconnect(successful)
    assert heard == [note.name]
