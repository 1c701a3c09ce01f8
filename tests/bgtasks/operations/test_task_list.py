"""One list of all tasks, whatever happens while somebody turns its pages."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bgtasks import AsyncResult, background
from bgtasks.models import Outcome
from bgtasks.operations import task_list
from bgtasks.operations.states import State
from bgtasks.operations.task_list import Filter
from bgtasks.queue import claims, finish
from bgtasks.queue.ending import Ending
from bgtasks.testing import run_pending
from signup.models import User
from tests.bgtasks.queue.helpers import TOKEN

pytestmark = pytest.mark.django_db(transaction=True)


@background(name="tests.listing.do", max_attempts=2)
def do(*args: Any) -> None:
    if args == ("fail",):
        raise ValueError("in vain: 100 %")


@background(name="tests.listing.other")
def other() -> None: ...


def one_of_each_state() -> dict[State, int]:
    """A task in each state; returns their ids."""
    ids = {}
    for state, retries in ((State.FAILED, 2), (State.RETRYING, 1)):
        ids[state] = do("fail", queue="slow").pk
        for _ in range(retries):
            Task.objects.update(run_at=timezone.now())
            run_pending(raise_failures=False)
    ids[State.SUCCEEDED] = do(1, priority=3).pk
    run_pending()
    ids[State.CANCELLED] = do(2).pk
    assert AsyncResult(ids[State.CANCELLED]).revoke()
    ids[State.RUNNING] = do(3).pk
    assert claims.claim_row(Task.objects.get(pk=ids[State.RUNNING]), TOKEN)
    ids[State.SCHEDULED] = do(4, schedule=3600).pk
    ids[State.WAITING] = other().pk
    return ids


def ids_of(**wanted: Any) -> list[int]:
    return [task.id for task in task_list.page(Filter(**wanted)).tasks]


def test_all_tasks_are_in_one_list_with_their_states() -> None:
    ids = one_of_each_state()
    page = task_list.page()
    assert {task.state: task.id for task in page.tasks} == ids
    assert [task.id for task in page.tasks] == sorted(ids.values(), reverse=True)
    assert (page.next, page.incomplete) == (None, False)
    for state, pk in ids.items():
        assert ids_of(states=frozenset({state})) == [pk]
        found = task_list.find(pk)
        assert found
        assert found.state == state


def test_a_task_that_has_ended_says_how_long_it_waited_and_ran() -> None:
    do(1)
    run_pending()
    (task,) = task_list.page().tasks
    assert (task.name, task.params, task.attempts) == (do.name, "[[1], {}]", 1)
    assert task.waited
    assert task.ran
    assert task.waited >= timedelta(0) <= task.ran
    assert task.claim


@pytest.mark.parametrize(
    ("wanted", "states"),
    [
        ({"name": "tests.listing.other"}, {State.WAITING}),
        ({"queue": "slow"}, {State.FAILED, State.RETRYING}),
        ({"queue": "", "name": "tests.listing.other"}, {State.WAITING}),
        ({"worker": TOKEN.partition(".")[0]}, {State.RUNNING}),
        ({"error": "ValueError"}, {State.FAILED, State.RETRYING}),
        ({"error": "100 %"}, {State.FAILED, State.RETRYING}),
        ({"error": "1_0"}, set()),
        ({"text": "FAIL"}, {State.FAILED, State.RETRYING}),
        ({"text": "[2]"}, {State.CANCELLED}),
        ({"text": "'; DROP TABLE background_task; --"}, set()),
        ({"states": {State.RUNNING, State.SUCCEEDED}}, {State.RUNNING, State.SUCCEEDED}),
        ({"states": {State.FAILED}, "queue": "no such"}, set()),
    ],
)
def test_filters(wanted: dict[str, Any], states: set[State]) -> None:
    ids = one_of_each_state()
    assert {*ids_of(**wanted)} == {ids[state] for state in states}


def test_filters_by_time_and_by_creator() -> None:
    user = User.objects.create_user("zoe", "zoe@example.com", "quite-Long-99", pk=7)
    run_pending()
    by_user = do(1, creator=user).pk
    later = do(2, schedule=3600).pk
    soon = timezone.now() + timedelta(minutes=1)
    type_ = ContentType.objects.get_for_model(User).pk
    assert ids_of(creator=(type_, 7), name=do.name) == [by_user]
    assert ids_of(after=soon) == [later]
    assert by_user in ids_of(before=soon)
    run_pending()
    assert ids_of(creator=(type_, 7), name=do.name) == [by_user]
    assert by_user in ids_of(before=soon)


def test_pages_show_each_task_once_while_rows_arrive_and_end() -> None:
    ids = [row.pk for row in do.map(range(100))]
    random.seed(5)
    seen: list[int] = []
    before = None
    while True:
        page = task_list.page(Filter(name=do.name), before, size=7)
        seen += [task.id for task in page.tasks]
        do("new")
        for pk in random.sample(ids, 5):
            if claims.claim_row(row := Task(pk=pk, attempts=0), TOKEN):
                finish.record_alone(Ending(Task.objects.get(pk=row.pk)))
        if page.next is None:
            break
        before = page.next
    assert seen == sorted(ids, reverse=True)


def test_a_page_that_is_not_looked_for_to_the_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    first = other().pk
    do.map(range(50))
    monkeypatch.setattr(task_list, "BUDGET", 0)
    monkeypatch.setattr(task_list, "FIRST_WINDOW", 10)
    page = task_list.page(Filter(name=other.name))
    assert page.tasks == []
    assert page.incomplete
    pages = [page]
    while pages[-1].next is not None:
        pages.append(task_list.page(Filter(name=other.name), pages[-1].next))
    assert len(pages) > 2
    assert [task.id for page in pages for task in page.tasks] == [first]
    assert not pages[-1].incomplete


def test_a_row_with_a_date_that_python_cannot_hold_is_listed() -> None:
    do(1)
    odd = "infinity" if task_list.db.on_postgresql() else "2024-99-99 00:00:00"
    task_list.db.execute(f"UPDATE {task_list.db.TASKS} SET run_at = %s", [odd])
    (task,) = task_list.page().tasks
    assert task.due_at is None


def test_what_an_older_version_has_recorded_is_listed() -> None:
    do(1)
    run_pending()
    Outcome.objects.update(due_at=None)
    (task,) = task_list.page().tasks
    assert (task.due_at, task.waited) == (None, None)
    assert task.ran is not None


@pytest.mark.parametrize("id_", ["x", "-1", 10**30, "1; DROP", ""])
def test_no_task_has_such_an_id(id_: Any) -> None:
    assert task_list.find(id_) is None


@pytest.mark.on_sqlite
def test_a_filter_by_state_does_not_read_all_outcomes_of_that_state() -> None:
    """SQLite would take the index on the state for better than the range of ids."""
    do(1)
    with CaptureQueriesContext(connection) as asked:
        task_list.page(Filter(states=frozenset({State.FAILED})))
    (sql,) = (each["sql"] for each in asked if "last_error" in each["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        plan = " ".join(str(row[-1]) for row in cursor.fetchall())
    assert "(task_id>? AND task_id<?)" in plan
    assert "bgtasks_outcome_age" not in plan
