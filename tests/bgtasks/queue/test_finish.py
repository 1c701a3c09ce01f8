"""Recording what runs came to: rows move to the completed ones, or back on the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import CompletedTask, Task
from django.utils import timezone

from bgtasks.models import Attempt, Outcome
from bgtasks.queue import database as db
from bgtasks.queue import finish
from bgtasks.queue.ending import Ending
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import TOKEN, claim, rows
from tests.harness.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_batch_is_recorded_in_one_transaction(django_assert_num_queries: Any) -> None:
    rows(50)
    held = claim()
    # PostgreSQL does all in one statement; SQLite in three, and the transaction's begin and end.
    with django_assert_num_queries(1 if db.on_postgresql() else 5):
        assert finish.record_successes([Ending(row) for row in held]) == []
    assert Task.objects.count() == 0
    assert CompletedTask.objects.filter(failed_at=None, attempts=1).count() == 50
    pairs = Outcome.objects.values_list("task_id", "completed_id")
    completed = dict(CompletedTask.objects.values_list("pk", "task_params"))
    for row in held:
        assert completed[dict(pairs)[row.pk]] == row.task_params


def test_a_completed_row_keeps_what_the_row_was(user: Any) -> None:
    made = task(
        ["x"], priority=3, queue="q", verbose_name="a name", creator=user, schedule=timezone.now()
    )
    finish.record_successes([Ending(row) for row in claim()])
    completed = CompletedTask.objects.get()
    for name in ("task_name", "task_params", "task_hash", "priority", "queue", "verbose_name"):
        assert getattr(completed, name) == getattr(made, name)
    assert completed.creator == user
    assert completed.run_at >= made.run_at


def endings_of_every_kind(row: Task) -> list[Ending]:
    return [
        Ending(row),
        Ending(row, Attempt.State.FAILED, "no"),
        Ending(row, Attempt.State.FAILED, "again", timedelta(seconds=5)),
        Ending(row, Attempt.State.LOST, "lost", timedelta(0)),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("repeat", [0, 60])
def test_p3_a_late_ending_changes_nothing(kind: int, repeat: int) -> None:
    rows(1, repeat=repeat)
    (row,) = claim()
    Task.objects.update(locked_by="bg~000000000000.1-2")
    before = Task.objects.values().get()
    assert not finish.record_alone(endings_of_every_kind(row)[kind])
    if kind == 0:
        assert finish.record_successes([Ending(row)]) == [row]
    assert Task.objects.values().get() == before
    assert not CompletedTask.objects.exists()
    assert not Outcome.objects.exists()
    assert not Attempt.objects.exists()


def test_p3_of_two_endings_at_the_same_moment_one_is_recorded() -> None:
    for _ in range(5):
        rows(1)
        (row,) = claim()
        in_threads(4, lambda _, row=row: finish.record_alone(Ending(row)))
    assert CompletedTask.objects.count() == Outcome.objects.count() == 5


def test_a_stale_outcome_of_the_same_id_does_not_fail_the_finish() -> None:
    (made,) = rows(1)
    Outcome.objects.create(
        task_id=made.pk, completed_id=1, state="failed", attempts=9, finished_at=timezone.now()
    )
    finish.record_successes([Ending(row) for row in claim()])
    outcome = Outcome.objects.get()
    assert (outcome.state, outcome.attempts) == ("succeeded", 1)


def test_a_failed_attempt_goes_back_with_its_story() -> None:
    rows(1)
    (row,) = claim()
    ending = Ending(row, Attempt.State.FAILED, "Traceback", timedelta(seconds=6))
    assert finish.record_alone(ending)
    row = Task.objects.get()
    assert (row.locked_by, row.attempts, row.last_error) == (None, 1, "Traceback")
    assert row.run_at > timezone.now() + timedelta(seconds=4)
    attempt = Attempt.objects.get()
    assert (attempt.task_id, attempt.number, attempt.state) == (row.pk, 1, "failed")
    assert attempt.claim == TOKEN


def test_success_after_a_failure_shows_no_error_and_keeps_the_story() -> None:
    rows(1)
    Task.objects.update(last_error="Traceback", attempts=1)
    finish.record_successes([Ending(row) for row in claim()])
    assert CompletedTask.objects.get().has_error() is False
    assert CompletedTask.objects.get().attempts == 2
