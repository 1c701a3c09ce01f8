"""What Celery has and we refuse, in words that say what to do."""

from __future__ import annotations

from typing import Any

import pytest
from background_task.models import Task as Row
from background_task.tasks import tasks as registry

from bgtasks import exceptions
from bgtasks.dialects import celery
from bgtasks.dialects.celery import shared_task
from tests.bgtasks.dialects.celery.helpers import add, declaring, queue


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


@declaring
def test_a_refusal_names_the_options_that_are_supported() -> None:
    options = "args, kwargs, countdown, eta, expires, queue, priority, time_limit"
    with pytest.raises(exceptions.UnknownOption, match=f"Supported are: {options}.$"):
        add.apply_async([1], link=None)
    with pytest.raises(exceptions.UnknownOption, match="Supported are: bind, name, autoretry_for"):
        shared_task(typing=True)(len)


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
