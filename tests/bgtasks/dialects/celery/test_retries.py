"""Retries in Celery's words."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from background_task.models import Task as Row
from background_task.tasks import tasks as registry
from django.utils import timezone

import bgtasks
from bgtasks import exceptions
from bgtasks.dialects import celery
from bgtasks.dialects.celery import AsyncResult, shared_task
from bgtasks.models import Attempt
from tests.bgtasks.dialects.celery.helpers import NOON, delays, endless, fail, queue, stubborn
from tests.conftest import run_queued


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


class GivesUp:
    """Functions that decide in their third run that this is the last one."""

    @staticmethod
    def with_the_reason(self: Any) -> None:
        raise self.retry(exc=KeyError("enough"), max_retries=0)

    @staticmethod
    def without_a_reason(self: Any) -> None:
        self.retry(max_retries=0)

    @staticmethod
    def with_as_many_as_it_had(self: Any) -> None:
        self.retry(exc=KeyError("enough"), max_retries=2)

    @staticmethod
    def by_another_error(self: Any) -> None:
        with suppress(KeyError):
            self.retry(exc=KeyError("enough"), max_retries=0)
        raise LookupError("enough")


@shared_task(bind=True, autoretry_for=(Exception,), max_retries=10, default_retry_delay=0,
             retry_kwargs={"max_retries": 10})  # fmt: skip
def gives_up(self: Any, how: str) -> None:
    if self.request.retries < 2:
        raise OSError("not yet")
    getattr(GivesUp, how)(self)


@shared_task(bind=True, autoretry_for=(Exception,), max_retries=10, default_retry_delay=0)
async def gives_up_coroutine(self: Any, how: str) -> None:
    if self.request.retries < 2:
        raise OSError("not yet")
    getattr(GivesUp, how)(self)


@shared_task(bind=True, autoretry_for=(OSError,), max_retries=1, default_retry_delay=0)
def goes_on(self: Any) -> None:
    """Ask for more tries than the decorator allows, and raise in the same run."""
    self.retry(max_retries=3, throw=False)
    raise OSError("not yet")


@shared_task(autoretry_for=(OSError,), retry_backoff=2, retry_backoff_max=5, retry_jitter=False)
async def unreachable() -> None:
    raise ConnectionError("no route")


@queue
def test_a_retry_that_the_task_catches_comes_all_the_same() -> None:
    result = swallows.delay()
    run_queued()
    assert (result.state, result.get()) == ("SUCCESS", 1)


@queue
@pytest.mark.parametrize("task", [gives_up, gives_up_coroutine], ids=["function", "coroutine"])
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("with_the_reason", KeyError),
        ("without_a_reason", celery.MaxRetriesExceededError),
        ("with_as_many_as_it_had", KeyError),
        ("by_another_error", LookupError),
    ],
)
def test_p9_a_retry_with_no_tries_left_is_final_under_autoretry(
    task: Any, how: str, error: type[Exception]
) -> None:
    result = task.delay(how)
    run_queued()
    assert (result.state, result.attempts, type(result.result)) == ("FAILURE", 3, error)


@queue
def test_p9_the_retries_that_a_run_asks_for_go_before_those_of_the_decorator() -> None:
    result = goes_on.delay()
    run_queued()
    assert (result.state, result.attempts) == ("FAILURE", 4)


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
