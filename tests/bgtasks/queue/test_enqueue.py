"""Inserting rows: one by one, in bulk, and as saved instances."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha1
from typing import Any

import pytest
from background_task.models import CompletedTask, Task
from background_task.tasks import TaskSchedule
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from bgtasks import exceptions
from signup.tasks import discard_files as task
from tests.bgtasks.queue.helpers import claim, rows
from tests.harness.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_p1_a_task_exists_if_and_only_if_its_transaction_commits() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        rows(2)
        1 / 0  # noqa: B018
    assert not Task.objects.exists()


def test_an_enqueue_is_one_statement(django_assert_num_queries: Any) -> None:
    with transaction.atomic(), django_assert_num_queries(1):
        task(["a"])  # PostgreSQL's idle workers are told after the commit


def test_the_hash_is_what_it_always_was() -> None:
    row = task(["a"], queue="q")
    params = json.dumps([[["a"]], {}], sort_keys=True)
    assert row.task_params == params
    assert row.task_hash == sha1((task.name + params).encode()).hexdigest()


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        ([object()], {}, "Argument 1 of .*discard_files is of type object"),
        ([], {"names": 1j}, "Argument names .* is of type complex"),
        ([{1: 2, "a": 3}], {}, "Argument 1 .* is of type dict"),
        ([{1, 2}], {}, "Argument 1 .* is of type set"),
    ],
)
def test_an_argument_that_is_not_json_is_named(
    arguments: list[Any], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        task(*arguments, **options)


def test_an_argument_that_contains_itself_is_named() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(exceptions.NotJSON, match="Argument 1"):
        task(endless)


def test_a_time_without_a_zone_is_taken_as_local_with_a_warning(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    moment = timezone.now().astimezone(timezone.get_current_timezone())
    with pytest.warns(RuntimeWarning, match=r"schedule of task .*discard_files"):
        row = task(["a"], schedule=moment.replace(tzinfo=None))
    assert row.run_at == moment
    with pytest.warns(RuntimeWarning, match="repeat_until of task"):
        task(["a"], repeat_until=moment.replace(tzinfo=None))


@pytest.mark.parametrize("action", [TaskSchedule.CHECK_EXISTING, TaskSchedule.RESCHEDULE_EXISTING])
def test_enqueuers_at_the_same_moment_leave_one_row_and_all_learn_of_it(action: int) -> None:
    made = in_threads(8, lambda n: task(["same"], schedule={"action": action, "priority": n}).pk)
    assert set(made) == {Task.objects.get().pk}


def test_replacing_at_the_same_moment_leaves_one_row() -> None:
    in_threads(8, lambda _: task(["same"], remove_existing_tasks=True).pk)
    assert Task.objects.count() == 1


def test_rows_of_another_queue_are_not_touched() -> None:
    there = task(["same"], queue="there")
    here = task(["same"], queue="here", schedule={"action": TaskSchedule.CHECK_EXISTING})
    task(["same"], queue="here", remove_existing_tasks=True)
    assert here.pk != there.pk
    assert set(Task.objects.values_list("queue", flat=True)) == {"here", "there"}


def test_rescheduling_gives_the_row_that_waits_its_new_time() -> None:
    first = task(["same"], schedule=60)
    later = timezone.now() + timedelta(hours=1)
    action = TaskSchedule.RESCHEDULE_EXISTING
    again = task(["same"], schedule={"run_at": later, "priority": 3, "action": action})
    assert (again.pk, again.run_at, again.priority) == (first.pk, later, 3)


def test_a_row_that_is_gone_is_not_written_anew() -> None:
    (row,) = rows(1)
    Task.objects.all().delete()
    row.priority = 9
    with pytest.raises(DatabaseError, match="finished or deleted meanwhile"):
        row.save()
    assert not Task.objects.exists()


def test_a_copy_of_a_row_can_be_saved() -> None:
    (row,) = rows(1)
    row.pk = None
    row.save()
    assert Task.objects.count() == 2


def test_whether_a_row_is_running_costs_no_query(django_assert_num_queries: Any) -> None:
    rows(2)
    claim(1)
    held, free = Task.objects.order_by("locked_by" if connection.vendor == "x" else "pk")
    with django_assert_num_queries(0):
        assert held.locked_by_pid_running() is True
        assert free.locked_by_pid_running() is None
        held.locked_at -= timedelta(minutes=5)
        assert held.locked_by_pid_running() is False
        assert CompletedTask(locked_by="bg~1.1-1").locked_by_pid_running() is False
