"""Many calls at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from background_task.signals import task_created
from background_task.tasks import TaskSchedule
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.utils import timezone

from bgtasks import exceptions
from bgtasks.dialects.django_q import call
from bgtasks.queue import claims, enqueue
from signup.tasks import discard_files as task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _empty() -> None:
    Task.objects.all().delete()


def values(row: Task) -> dict[str, Any]:
    names = [field.attname for field in Task._meta.concrete_fields]
    return {name: getattr(row, name) for name in names if name != "id"}


def test_each_call_is_the_row_that_it_would_be_alone(user: Any) -> None:
    options = {
        "priority": 3, "queue": "q", "verbose_name": "a name", "creator": user, "repeat": 60,
        "schedule": timezone.now() + timedelta(hours=1), "repeat_until": timezone.now(),
    }  # fmt: skip
    alone = task(["a"], **options)
    (row,) = task.map([["a"]], **options)
    assert values(row) == values(alone)
    row.refresh_from_db()
    assert values(row) == values(alone)


def test_rows_come_back_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueue, "CHUNK", 7)
    rows = task.map([[str(n)] for n in range(20)])
    assert [row.params()[0][0] for row in rows] == [[str(n)] for n in range(20)]
    stored = Task.objects.in_bulk([row.pk for row in rows])
    assert all(stored[row.pk].task_params == row.task_params for row in rows)
    assert [row.pk for row in rows] == sorted(stored)


def test_several_iterables_are_several_arguments() -> None:
    rows = call.map([1, 2], ["a", "b"], flag=True)  # a task that takes anything
    assert [row.params() for row in rows] == [
        ([1, "a"], {"flag": True}),
        ([2, "b"], {"flag": True}),
    ]


def test_a_row_can_be_saved_afterwards() -> None:
    (row,) = task.map([["a"]])
    row.priority = 7
    row.save()
    assert Task.objects.get().priority == 7


def test_a_queue_that_is_too_long_is_refused_or_held_and_not_cut() -> None:
    if connection.vendor == "sqlite":  # it holds texts of any length
        assert task.map([["a"]], queue="q" * 300)
        assert Task.objects.get().queue == "q" * 300
        return
    with pytest.raises(exceptions.InvalidOption, match=r"queue .* has 300 characters"):
        task.map([["a"]], queue="q" * 300)
    assert not Task.objects.exists()


def test_nothing_is_a_list_of_nothing() -> None:
    assert task.map([]) == []


def test_p1_all_or_none() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        task.map([["a"], ["b"]])
        1 / 0  # noqa: B018
    assert not Task.objects.exists()


def test_what_is_not_json_is_named_before_anything_is_enqueued() -> None:
    with pytest.raises(exceptions.NotJSON, match=r"Argument 1 of .* is of type object"):
        task.map([["a"], object()])
    assert not Task.objects.exists()


def test_iterables_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        task.map([1, 2], [1])
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"remove_existing_tasks": True},
        {"schedule": {"action": TaskSchedule.CHECK_EXISTING}},
        {"schedule": {"action": TaskSchedule.RESCHEDULE_EXISTING}},
    ],
)
def test_looking_for_existing_rows_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="once for each item"):
        task.map([["a"]], **options)


def test_few_statements_insert_many_rows(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(5):
        task.map([[str(n)] for n in range(2000)])


def test_receivers_hear_of_each_row() -> None:
    created, saved = [], []

    def note_created(task: Task, **_: Any) -> None:
        created.append(task.pk)

    def note_saved(instance: Task, **_: Any) -> None:
        saved.append(instance.pk)

    task_created.connect(note_created)
    post_save.connect(note_saved, sender=Task)
    try:
        rows = task.map([["a"], ["b"]])
    finally:
        task_created.disconnect(note_created)
        post_save.disconnect(note_saved, sender=Task)
    assert created == saved == [row.pk for row in rows]


def test_saving_one_later_leaves_alone_what_a_worker_wrote_meanwhile() -> None:
    (row,) = task.map([["a"]])
    assert claims.claim_row(Task.objects.get(pk=row.pk), "bg~000000000000.1-1")
    row.priority = 7
    row.save()
    stored = Task.objects.get(pk=row.pk)
    assert (stored.priority, stored.locked_by) == (7, "bg~000000000000.1-1")


def test_saving_again_and_again_keeps_nothing_but_the_fields() -> None:
    row = task(["a"])
    for priority in range(3):
        row.priority = priority
        row.save()
    names = {field.attname for field in Task._meta.concrete_fields}
    assert set(row._bgtasks_known) == names
