"""Celery's words, on our rows."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from background_task.models import Task as Row
from background_task.tasks import tasks as registry
from django.core.exceptions import FieldError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import bgtasks
from bgtasks import exceptions
from bgtasks.dialects import celery
from bgtasks.dialects.celery import AsyncResult, shared_task
from bgtasks.models import Attempt, CallOptions, Outcome
from bgtasks.queue import progress
from bgtasks.tasks import policies
from tests.conftest import run_queued
from tests.harness.deployment import Deployment
from tests.harness.process import children

APP = "tests.bgtasks.project.celeryapp"
MORE = {"MORE_APPS": APP}
HERE = __name__
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)


@shared_task
def add(x: int, y: int = 0) -> int:
    """The sum."""
    return x + y


@shared_task
async def add_later(x: int, y: int) -> int:
    return x + y


@shared_task
def fail(text: str) -> None:
    raise ValueError(text)


@shared_task(ignore_result=True)
def ignored() -> int:
    return 7


@shared_task(name="mine", queue="slow", priority=3, time_limit=60, expires=600)
def with_options() -> None: ...


@shared_task(bind=True)
def about(self: Any, *args: Any, **kwargs: Any) -> list[Any]:
    request = self.request
    return [request.id, request.task, request.args, request.kwargs, request.retries,
            request.called_directly, self.name]  # fmt: skip


@shared_task(bind=True, max_retries=2, default_retry_delay=0)
def stubborn(self: Any, how: str) -> None:
    """Never succeed."""
    if how == "no reason":
        self.retry()
    if how == "made":
        self.retry(exc=KeyError(how))
    try:
        raise KeyError(how)
    except KeyError as error:
        self.retry(exc=None if how == "handled" else error, max_retries=3 if how == "3" else None)


@shared_task(bind=True, max_retries=None, default_retry_delay=0)
def endless(self: Any, most: int) -> int:
    if self.request.retries < most:
        self.retry()
    return self.request.retries


@shared_task(bind=True)
def soft(self: Any) -> str:
    """Ask for another try, and go on."""
    if not self.request.retries:
        assert isinstance(self.retry(countdown=0, throw=False), bgtasks.Retry)
    return f"after {self.request.retries}"


@shared_task(bind=True, default_retry_delay=None)
def swallows(self: Any) -> int:
    """Ask for another try, and catch what says so."""
    if not self.request.retries:
        with suppress(Exception):
            self.retry()
    return int(self.request.retries)


@shared_task(bind=True)
def tells(self: Any, status: Any) -> list[Any]:
    """Tell something in the first run only; how it looks before that."""
    before = AsyncResult(self.request.id)
    seen = [before.state, before.info]
    if not self.request.retries:
        self.update_state(meta={"current": 5, "total": 10, "status": status})
        raise self.retry(countdown=0)
    return seen


@shared_task(bind=True)
def asks(self: Any, *args: Any, **options: Any) -> None:
    self.retry(**options)


@shared_task(autoretry_for=(ArithmeticError, LookupError), dont_autoretry_for=(KeyError,),
             retry_kwargs={"max_retries": 1, "countdown": 0})  # fmt: skip
def flaky(error: str) -> None:
    raise {"zero": ZeroDivisionError, "key": KeyError, "value": ValueError}[error](error)


@shared_task(autoretry_for=(Exception,))
def decides(what: str) -> None:
    raise bgtasks.Cancel("enough") if what == "cancel" else bgtasks.Snooze(3600)


@shared_task(autoretry_for=(OSError,), retry_backoff=2, retry_backoff_max=5, retry_jitter=False)
async def unreachable() -> None:
    raise ConnectionError("no route")


@shared_task(bind=True)
def calls_another(self: Any) -> list[Any]:
    return [about.run(1), about(2), about.proxy.now(3), self.request.called_directly]


@pytest.fixture
def empty_queue(db: None) -> None:
    """The site's own hourly task is not in the way."""
    Row.objects.all().delete()


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(registry._tasks)
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


queue = pytest.mark.usefixtures("empty_queue")
declaring = pytest.mark.usefixtures("registered")


@pytest.fixture
def at_noon(empty_queue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(timezone, "now", lambda: NOON)


def delays() -> list[float]:
    """Seconds from noon until each row is ready."""
    return [(row.run_at - NOON).total_seconds() for row in Row.objects.order_by("pk")]


# --- calling


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
    row, options = Row.objects.get(), CallOptions.objects.get()
    assert (row.queue, row.priority, delays()) == ("slow", 7, [300])
    kept = json.loads(options.options)
    assert kept == {"timeout": 30, "expires": NOON.timestamp() + 600}
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
    with pytest.raises(exceptions.NotJSON, match=r"Argument y of .*\.add is a set"):
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


# --- what is not supported


@declaring
@pytest.mark.parametrize(
    "option",
    ["acks_late", "backend", "base", "rate_limit", "reject_on_worker_lost", "send_events",
     "serializer", "soft_time_limit", "throws", "track_started", "typing"],
)  # fmt: skip
def test_other_options_of_the_decorator_are_refused_by_name(option: str) -> None:
    with pytest.raises(exceptions.UnknownOption, match=f"@shared_task: {option} is not supported"):
        shared_task(**{option: True})(len)


@queue
@pytest.mark.parametrize(
    "option",
    ["task_id", "link", "link_error", "chord", "ignore_result", "soft_time_limit", "serializer",
     "shadow", "headers", "routing_key", "exchange", "retry", "connection"],
)  # fmt: skip
def test_other_options_of_a_call_are_refused_by_name(option: str) -> None:
    with pytest.raises(exceptions.UnknownOption, match=rf"add: {option} is not supported"):
        add.apply_async([1], **{option: None})
    assert not Row.objects.exists()


@pytest.mark.parametrize("name", sorted(celery.MISSING))
def test_signatures_are_refused_by_name(name: str) -> None:
    with pytest.raises(exceptions.UnknownOption, match=rf"{name}\(\) of a task is not supported"):
        getattr(add, name)
    assert not hasattr(add, name)
    assert not hasattr(add, "anything")


@declaring
def test_what_no_worker_could_find_is_refused() -> None:
    def nested() -> None: ...

    class Thing:
        def method(self) -> None: ...

    with pytest.raises(exceptions.NestedTask, match="nested"):
        shared_task(nested)
    with pytest.raises(exceptions.LambdaTask):
        shared_task(lambda: 1)
    Thing.method.__qualname__ = "Thing.method"
    with pytest.raises(exceptions.MethodTask, match=r"Thing\.method"):
        shared_task(Thing.method)


@declaring
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"autoretry_for": ValueError}, "tuple of exception classes"),
        ({"dont_autoretry_for": ("ValueError",)}, "tuple of exception classes"),
        ({"max_retries": -1}, "max_retries of task .* is -1"),
        ({"retry_kwargs": {"max_retries": 1.5}}, "max_retries of task .* is 1.5"),
        ({"retry_kwargs": {"queue": "slow"}}, "retry_kwargs of task .*: queue is not supported"),
        ({"time_limit": 0}, "timeout of task"),
        ({"bind": True}, "takes no first argument"),
        ({"retry_backoff": "x"}, "retry_backoff of task .* is 'x'"),
        ({"retry_backoff_max": -1}, "retry_backoff_max of task"),
        ({"retry_kwargs": {"countdown": -1}}, "countdown in retry_kwargs"),
        ({"default_retry_delay": -1}, "default_retry_delay of task"),
        ({"expires": "soon"}, "expires of task"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    names = set(registry._tasks)
    with pytest.raises(exceptions.BgtasksError, match=text):
        shared_task(name="nonsense", **options)(_without_arguments)
    assert set(registry._tasks) == names


def _without_arguments() -> None: ...


@queue
def test_a_limit_of_a_call_that_makes_no_sense_is_refused() -> None:
    for limit in (0, -1):
        with pytest.raises(exceptions.InvalidOption, match="timeout of task"):
            add.apply_async([1], time_limit=limit)
    assert not Row.objects.exists()


@queue
def test_the_highest_priority_goes_first_whatever_the_project_has(settings: Any) -> None:
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    low, high = (add.apply_async([1], priority=priority) for priority in (1, 9))
    registry.run_next_task()
    assert (low.state, high.state) == ("PENDING", "SUCCESS")


# --- retries


@queue
def test_a_retry_that_the_task_catches_comes_all_the_same() -> None:
    result = swallows.delay()
    run_queued()
    assert (result.state, result.get()) == ("SUCCESS", 1)


@queue
def test_a_retry_that_is_past_comes_at_once() -> None:
    result = asks.delay(countdown=-5)
    registry.run_next_task()
    assert result.state == "RETRY"
    assert Row.objects.get().run_at <= timezone.now()


@queue
@pytest.mark.parametrize("status", [None, 7, "half"])
def test_a_second_try_begins_without_the_progress_of_the_first(status: Any) -> None:
    result = tells.delay(status)
    run_queued()
    assert result.get() == ["STARTED", {}]


@queue
def test_an_exception_is_a_failure_at_once() -> None:
    result = fail.delay("no")
    run_queued()
    assert (result.state, result.attempts, result.failed()) == ("FAILURE", 1, True)
    assert isinstance(result.result, ValueError)
    assert "ValueError: no" in result.traceback
    with pytest.raises(ValueError, match="no"):
        result.get()
    assert isinstance(result.get(propagate=False), ValueError)


@queue
@pytest.mark.parametrize(
    ("how", "attempts", "error"),
    [
        ("given", 3, KeyError),
        ("made", 3, KeyError),
        ("3", 4, KeyError),
        ("handled", 3, celery.MaxRetriesExceededError),
        ("no reason", 3, stubborn.MaxRetriesExceededError),
    ],
)
def test_a_task_asks_for_retries_until_it_has_had_them(
    how: str, attempts: int, error: type[Exception]
) -> None:
    result = stubborn.delay(how)
    registry.run_next_task()
    assert (result.state, result.ready(), Row.objects.get().attempts) == ("RETRY", False, 1)
    run_queued()
    assert (result.state, result.attempts) == ("FAILURE", attempts)
    assert type(result.result) is error
    assert Attempt.objects.filter(task_id=result.id, state="failed").count() == attempts
    if how != "no reason":  # what made it retry is told
        assert f"KeyError: '{how}'" in Attempt.objects.order_by("number").first().error


@queue
def test_without_a_limit_it_is_tried_as_often_as_it_asks(settings: Any) -> None:
    settings.MAX_ATTEMPTS = 2
    result = endless.delay(30)
    run_queued()
    assert (result.get(), result.attempts) == (30, 31)


@queue
def test_a_retry_that_is_returned_comes_when_the_function_has_ended() -> None:
    result = soft.delay()
    run_queued()
    assert (result.get(), result.attempts) == ("after 1", 2)


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 180),
        ({"countdown": 60}, 60),
        ({"eta": NOON + timedelta(hours=1)}, 3600),
        ({"eta": NOON - timedelta(hours=1)}, 0),
    ],
)
def test_a_retry_waits_as_long_as_it_says(options: dict[str, Any], seconds: int) -> None:
    asks.delay(**options)
    registry.run_next_task()
    assert delays() == [seconds]


@queue
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"args": [2]}, "other args"),
        ({"kwargs": {"queue": "slow"}}, "other kwargs"),
        ({"queue": "slow"}, "queue"),
        ({"expires": 60}, "expires"),
    ],
)
def test_a_retry_with_other_arguments_or_options_is_refused_by_name(
    options: dict[str, Any], name: str
) -> None:
    result = asks.delay(1, **options)
    run_queued()
    assert type(result.result) is exceptions.UnknownOption
    assert f"asks: {name} is not supported" in str(result.result)


@queue
def test_a_retry_may_repeat_the_arguments_that_it_has() -> None:
    result = asks.delay(1, args=[1])
    registry.run_next_task()
    assert result.state == "RETRY"


@pytest.mark.parametrize(
    ("how", "error"),
    [("given", KeyError), ("handled", bgtasks.Retry), ("no reason", bgtasks.Retry)],
)
def test_called_directly_a_retry_raises_here(how: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        stubborn(how)


@queue
@pytest.mark.parametrize(("error", "attempts"), [("zero", 2), ("key", 1), ("value", 1)])
def test_it_is_tried_again_by_itself_after_what_it_names(error: str, attempts: int) -> None:
    result = flaky.delay(error)
    run_queued()
    assert (result.state, result.attempts) == ("FAILURE", attempts)
    assert result.result.args == (error,)
    with pytest.raises(type(result.result)):
        flaky(error)


@pytest.mark.usefixtures("at_noon")
def test_the_backoff_doubles_up_to_its_most() -> None:
    result = unreachable.delay()
    waits = []
    while not result.ready():
        Row.objects.update(run_at=NOON)
        registry.run_next_task()
        waits += delays()
    assert waits == [2, 4, 5]
    assert isinstance(result.result, ConnectionError)


def test_the_backoff_is_a_random_part_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(celery.random, "uniform", lambda *span: asked.append(span) or 7.0)
    retrying = celery.Retrying(retry_backoff=True)
    assert retrying.arguments(3) == {"countdown": 7.0}
    assert retrying.arguments(10**9) == {"countdown": 7.0}
    assert asked == [(0, 8), (0, 600)]
    assert celery.Retrying(retry_kwargs={"countdown": 5}).arguments(3) == {"countdown": 5}


@queue
def test_our_own_words_are_not_taken_for_errors() -> None:
    cancelled, snoozed = decides.delay("cancel"), decides.delay("snooze")
    registry.run_next_task()
    registry.run_next_task()
    assert cancelled.state == "REVOKED"
    assert (snoozed.state, Row.objects.get().attempts) == ("PENDING", 0)


# --- the request, the progress


@queue
def test_a_bound_task_knows_its_call() -> None:
    result = about.delay(1, two=2)
    run_queued()
    name = f"{HERE}.about"
    assert result.get() == [result.id, name, [1], {"two": 2}, 0, False, name]
    assert about(1) == [None, name, (1,), {}, 0, True, name]
    assert (about.request.id, about.request.args, about.request.called_directly) == (None, (), True)


@queue
def test_a_task_that_another_calls_directly_is_not_taken_for_a_row() -> None:
    result = calls_another.delay()
    run_queued()
    run, called, now, own = result.get()
    assert (run[0], called[0], now[0], own) == (None, None, None, False)
    assert (called[2], called[5]) == ([2], True)


@declaring
def test_a_state_or_a_key_that_means_nothing_is_refused() -> None:
    add.update_state(state="PROGRESS", meta={"current": 1})  # outside of a worker: nothing
    for options, name in (
        ({"state": "CUSTOM"}, "state CUSTOM"),
        ({"meta": {"percent": 5}}, "meta 'percent'"),
        ({"task_id": "7"}, "task_id"),
    ):
        with pytest.raises(exceptions.UnknownOption, match=f"{name} is not supported"):
            add.update_state(**options)


# --- results


@queue
def test_a_result_is_found_by_a_text_or_a_number() -> None:
    result = add.delay(1)
    assert isinstance(result, bgtasks.AsyncResult)
    assert result.id == result.task_id == str(Row.objects.get().pk)
    assert result == AsyncResult(int(result.id)) == add.AsyncResult(result.id)
    assert result.state == AsyncResult(result.id).state == "PENDING"
    with pytest.raises(exceptions.UnknownResult, match="no task 'x'"):
        AsyncResult("x")
    with pytest.raises(exceptions.UnknownResult, match="There is no task 987654321"):
        _ = AsyncResult("987654321").state


@queue
def test_a_result_can_be_called_off_and_forgotten() -> None:
    result = add.delay(1)
    assert result.revoke()
    assert (result.state, result.ready(), result.cancelled()) == ("REVOKED", True, True)
    assert not result.revoke()
    assert result.forget()
    assert not Outcome.objects.exists()


@queue
def test_what_is_ignored_is_not_kept() -> None:
    result = ignored.delay()
    run_queued()
    assert (result.state, result.get()) == ("SUCCESS", None)


@queue
def test_the_progress_of_what_runs_is_its_info(monkeypatch: pytest.MonkeyPatch) -> None:
    result = add.delay(1)
    Row.objects.update(locked_by="somebody", attempts=1)
    assert (result.state, result.info) == ("STARTED", {})
    reported = progress.Reported(3, 4, "nearly")
    monkeypatch.setattr(progress, "read", lambda _: reported)
    assert result.state == "PROGRESS"
    assert result.info == {"current": 3, "total": 4, "status": "nearly"}


# --- real workers


def ask(project: Deployment, code: str) -> str:
    """Run code that may name the app's tasks; returns what it prints."""
    names = f"from {APP}.tasks import *\nfrom bgtasks.dialects.celery import AsyncResult\n"
    return project.run(names + code, **MORE).strip()


def test_the_seeds_words_hold_with_a_real_worker(project: Deployment) -> None:
    project.worker(**MORE)
    assert ask(project, "print(add.delay(4, 5).get(), multiply(3, 7))") == "9 21"
    assert ask(project, "print(add_later.delay(4, 5).get(timeout=60))") == "9"


def test_failures_and_retries_with_a_real_worker(project: Deployment) -> None:
    project.worker(**MORE)
    code = """
for result in (fail.delay("no"), stubborn.delay("door"), unreachable.delay("mars")):
    error = result.get(propagate=False)
    print(type(error).__name__, *error.args, result.state, result.attempts)
result = third_time.delay("key")
print(result.get(), result.id)
"""
    *lines, last = ask(project, code).splitlines()
    assert lines == [
        "ValueError no FAILURE 1",
        "KeyError door FAILURE 3",
        "ConnectionError mars FAILURE 2",
    ]
    value, row_id = last.split()
    assert value == "2"
    tries = [line[1:-1] for line in project.ledger("try")][-3:]
    assert tries == [[str(number), row_id, "key"] for number in range(3)]


def test_a_run_beyond_its_limit_is_a_failure_and_no_retry(project: Deployment) -> None:
    project.worker(**MORE)
    code = "r = endless.delay(); e = r.get(propagate=False); print(type(e).__name__, r.attempts)"
    assert ask(project, code) == "TaskTimeout 1"
    assert len(project.ledger("begin", "endless")) == 1


def test_p2_what_ran_in_a_killed_worker_runs_again_and_that_is_no_retry(
    project: Deployment,
) -> None:
    worker = project.worker(**MORE)
    row_id = ask(project, "print(waits.delay('key').id)")
    project.wait_for("begin", "key")
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    project.wait_for("begin", "key", count=2)
    Path(f"{project.ledger_path}.key").touch()
    assert ask(project, f"r = AsyncResult('{row_id}'); print(r.get(), r.attempts)") == "0 2"
    assert len(project.ledger("end", "key")) == 1
    assert [attempt["state"] for attempt in project.attempts()] == ["lost"]


def test_a_killed_supervisors_task_is_run_by_the_next(project: Deployment) -> None:
    worker = project.worker(**MORE)
    row_id = ask(project, "print(waits.delay('key').id)")
    project.wait_for("begin", "key")
    for victim in (worker.pid, *children(worker.pid)):
        os.kill(victim, signal.SIGKILL)
    worker.wait()
    Path(f"{project.ledger_path}.key").touch()
    project.worker(**MORE)
    assert ask(project, f"r = AsyncResult('{row_id}'); print(r.get(), r.state)") == "0 SUCCESS"


def test_progress_is_seen_while_it_runs_and_terminate_ends_it(project: Deployment) -> None:
    project.worker(**MORE)
    code = """
import time
result = waits.delay("never")
while result.state != "PROGRESS":
    time.sleep(0.01)
print(result.info)
print(result.revoke(), result.revoke(terminate=True), result.state)
"""
    assert ask(project, code).splitlines() == [
        "{'current': 3.0, 'total': 4.0, 'status': 'nearly'}",
        "False True REVOKED",
    ]


@queue
def test_what_is_told_of_a_retry_is_what_made_it_retry(caplog: pytest.LogCaptureFixture) -> None:
    row = Row.objects.get(pk=stubborn.delay("handled").id)
    registry.run_next_task()
    row.refresh_from_db()
    assert row.last_error.strip().endswith("KeyError: 'handled'")
    assert "CountedRetry" not in caplog.text
