"""Enqueueing in Django Q's words."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import Task as Row
from background_task.tasks import tasks as registry
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from bgtasks import exceptions
from bgtasks.dialects import django_q
from bgtasks.dialects.django_q import async_task, fetch, result
from bgtasks.models import CallOptions
from bgtasks.queue import call_options
from tests.bgtasks.dialects.django_q.helpers import APP, CALL, MULTIPLY, TELL, ledger, queue
from tests.bgtasks.project.qapp import tasks as app
from tests.conftest import run_queued


@queue
@pytest.mark.parametrize("func", [app.multiply, MULTIPLY])
def test_a_function_or_its_path_is_one_insert(func: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1) as captured:
        task_id = async_task(func, 4, y=5)
    assert captured[0]["sql"].startswith("INSERT")
    row = Row.objects.get()
    assert (task_id, row.task_name, row.verbose_name) == (str(row.pk), CALL, MULTIPLY)
    assert row.params() == ([MULTIPLY, 4], {"y": 5})
    assert (result(task_id), fetch(task_id)) == (None, None)
    run_queued()
    assert (result(task_id), result(task_id, wait=-1)) == (20, 20)


@queue
@pytest.mark.parametrize("in_q_options", [False, True])
def test_options_are_two_inserts_and_are_not_arguments(in_q_options: bool) -> None:
    options = {"task_name": "a product", "timeout": 30, "hook": app.tell, "sync": False}
    given: Any = {"q_options": options} if in_q_options else options
    with CaptureQueriesContext(connection) as captured:
        async_task(MULTIPLY, 4, 5, **given)
    statements = [query["sql"].split()[0] for query in captured]
    assert statements == ["SAVEPOINT", "INSERT", "INSERT", "RELEASE"]
    row = Row.objects.get()
    kept = call_options.load(row)
    assert (row.verbose_name, row.params()) == ("a product", ([MULTIPLY, 4, 5], {}))
    assert kept == {"timeout": 30, "hook": TELL, "then": "bgtasks.dialects.django_q.call_hook"}


@queue
def test_a_functions_arguments_may_have_any_other_name() -> None:
    words = {"path": 1, "func": 2, "queue": "q", "priority": 5, "schedule": 60, "task_id": 7}
    with pytest.raises(TypeError, match="func"):
        async_task(f"{APP}.tasks.named", **words)
    del words["func"]
    task_id = async_task(f"{APP}.tasks.named", **words)
    run_queued()
    assert result(task_id) == words


@queue
@pytest.mark.parametrize("func", [app.declared, f"{APP}.tasks.declared"])
def test_a_task_is_enqueued_itself(func: Any, settings: Any) -> None:
    task_id = async_task(func, 7, task_name="seven")
    row = Row.objects.get()
    assert (row.task_name, row.params()) == (f"{APP}.tasks.declared", ([7], {}))
    run_queued()
    ended = fetch(task_id)
    assert ended is not None
    assert (ended.func, ended.name, ended.args) == (row.task_name, "seven", [7])
    assert ledger(settings) == ["declared 7"]


@queue
def test_a_task_of_celerys_words_is_enqueued_itself_too(settings: Any) -> None:
    async_task(app.shared, 7)
    assert Row.objects.get().task_name == app.shared.name
    run_queued()
    assert ledger(settings) == ["shared 7 False"]


@queue
def test_a_function_that_became_a_task_meanwhile_runs_all_the_same(settings: Any) -> None:
    registry._tasks[CALL](f"{APP}.tasks.declared", 7)
    registry._tasks[CALL](f"{APP}.tasks.shared", 8)
    run_queued()
    assert ledger(settings) == ["declared 7", "shared 8 True"]


@queue
def test_coroutine_functions_run_too() -> None:
    task_id = async_task(f"{APP}.tasks.multiply_later", 4, 5)
    run_queued()
    assert result(task_id) == 20


@queue
@pytest.mark.parametrize("option", sorted(django_q.REFUSED))
def test_other_options_are_refused_by_name(option: str) -> None:
    for given in ({option: None}, {"q_options": {option: True}}):
        with pytest.raises(exceptions.UnknownOption, match=f"{option} is not supported"):
            async_task(MULTIPLY, 4, 5, **given)
    with pytest.raises(exceptions.UnknownOption, match="colour is not supported"):
        async_task(MULTIPLY, 4, 5, q_options={"colour": "red"})
    assert not Row.objects.exists()


@queue
def test_what_makes_no_sense_is_refused_at_the_call() -> None:
    with pytest.raises(exceptions.NotJSON, match=r"Argument 2 of .*multiply is of type set"):
        async_task(MULTIPLY, 4, set())
    for name in ("17", "x" * 256, 17):
        with pytest.raises(exceptions.InvalidOption, match="task_name"):
            async_task(MULTIPLY, 4, 5, task_name=name)
    with pytest.raises(exceptions.InvalidOption, match="timeout"):
        async_task(MULTIPLY, 4, 5, timeout=-1)
    assert not Row.objects.exists()


@queue
def test_p1_a_call_of_a_transaction_that_is_rolled_back_leaves_nothing() -> None:
    with pytest.raises(LookupError), transaction.atomic():
        async_task(MULTIPLY, 4, 5, timeout=30)
        raise LookupError
    assert not Row.objects.exists()
    assert not CallOptions.objects.exists()
