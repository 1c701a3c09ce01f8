"""Calling tasks in Celery's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from background_task.models import Task as Row
from background_task.tasks import tasks as registry
from django.core.exceptions import FieldError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from bgtasks import exceptions
from bgtasks.dialects.celery import shared_task
from bgtasks.models import CallOptions
from bgtasks.queue import call_options
from bgtasks.tasks import policies
from tests.bgtasks.dialects.celery.helpers import HERE, NOON, add, delays, fail, queue
from tests.conftest import run_queued


@shared_task
async def add_later(x: int, y: int) -> int:
    return x + y


@shared_task(name="mine", queue="slow", priority=3, time_limit=60, expires=600)
def with_options() -> None: ...


def test_a_call_runs_the_function_here_and_now_without_a_database() -> None:
    assert add(3, 7) == add(3, y=7) == add.run(3, 7) == 10
    with pytest.raises(ValueError, match="no"):
        fail("no")


def test_a_call_of_a_coroutine_gives_what_is_to_be_awaited() -> None:
    async def wait() -> Any:
        return await add_later(3, 7)

    assert async_to_sync(wait)() == 10


def test_a_task_looks_like_its_function_and_stands_in_the_registry() -> None:
    assert (add.name, add.__name__, add.__doc__) == (f"{HERE}.add", "add", "The sum.")
    assert repr(add) == f"<Task: {HERE}.add>"
    assert registry._tasks[add.name].now(3, 7) == 10
    assert with_options.name == "mine"


@queue
def test_delay_is_one_insert(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1) as captured:
        result = add.delay(4, 5)
    assert captured[0]["sql"].startswith("INSERT")
    assert (result.state, result.ready(), result.result) == ("PENDING", False, None)
    run_queued()
    assert (result.status, result.get(), result.successful()) == ("SUCCESS", 9, True)
    assert (result.traceback, result.failed(), result.info) == (None, False, 9)


@queue
def test_options_of_a_call_are_two_inserts() -> None:
    with CaptureQueriesContext(connection) as captured:
        add.apply_async((1,), {"y": 2}, time_limit=30)
    statements = [query["sql"].split()[0] for query in captured]
    assert statements == ["SAVEPOINT", "INSERT", "INSERT", "RELEASE"]


@pytest.mark.usefixtures("at_noon")
def test_a_call_may_name_queue_priority_delay_expiry_and_limit() -> None:
    add.apply_async([1], queue="slow", priority=7, countdown=300, expires=600, time_limit=30)
    row = Row.objects.get()
    assert (row.queue, row.priority, delays()) == ("slow", 7, [300])
    assert call_options.load(row) == {"timeout": 30, "expires": NOON.timestamp() + 600}
    assert row.params() == ([1], {})


@queue
def test_a_call_may_name_a_moment() -> None:
    moment = datetime(2001, 2, 3, tzinfo=UTC)
    add.apply_async([1], eta=moment)
    assert Row.objects.get().run_at == moment


@queue
def test_what_the_decorator_says_holds_for_all_calls() -> None:
    with_options.delay()
    row = Row.objects.get()
    assert (row.task_name, row.queue, row.priority) == ("mine", "slow", 3)
    assert policies.of("mine").limit == 60
    assert "expires" in CallOptions.objects.get().options


@queue
def test_a_call_that_has_expired_is_revoked() -> None:
    result = add.apply_async([1], expires=datetime(2001, 2, 3, tzinfo=UTC))
    run_queued()
    assert (result.state, result.ready(), result.failed()) == ("REVOKED", True, False)
    with pytest.raises(exceptions.TaskRevoked, match="expired"):
        result.get()


@queue
def test_arguments_that_do_not_fit_are_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match=rf"{HERE}\.add: .*'x'"):
        add.delay()
    with pytest.raises(TypeError, match="too many"):
        add.delay(1, 2, 3)
    with pytest.raises(exceptions.NotJSON, match=r"Argument y of .*\.add is of type set"):
        add.delay(1, y=set())
    assert not Row.objects.exists()


@queue
def test_p1_a_call_of_a_transaction_that_is_rolled_back_leaves_nothing() -> None:
    with pytest.raises(FieldError), transaction.atomic():
        for enqueue in (add.delay, add.delay_on_commit):
            assert enqueue(1).state == "PENDING"
        add.apply_async_on_commit([1])
        assert Row.objects.count() == 3
        raise FieldError
    assert not Row.objects.exists()
