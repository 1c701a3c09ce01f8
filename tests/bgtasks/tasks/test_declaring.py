"""Declaring tasks, and their settings and schedules."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bgtasks import background, conf, exceptions
from bgtasks.queue.repeat import next_run
from bgtasks.tasks import policies
from bgtasks.tasks.backoff import retry_delay
from tests.bgtasks.tasks.helpers import another, generating, plain


def test_a_task_looks_like_its_function() -> None:
    task = background(plain)
    assert (task.__name__, task.__doc__) == ("plain", "What it does.")
    assert inspect.signature(task) == inspect.signature(plain)
    assert task.name == "tests.bgtasks.tasks.helpers.plain"
    assert task.now(1) == "done"


def test_generator_functions_are_refused() -> None:
    with pytest.raises(exceptions.GeneratorTask, match=r"generating is a generator function"):
        background(generating)


def test_two_functions_of_one_name_are_refused() -> None:
    background(name="one")(plain)
    background(name="one")(plain)  # a module that is imported anew
    with pytest.raises(exceptions.DuplicateTask, match="both want to be the task one"):
        background(name="one")(another)


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_timeout_that_is_none_is_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="timeout of task"):
        background(timeout=seconds)(plain)


def test_a_tasks_own_timeout_goes_before_the_projects(settings: Any) -> None:
    unlimited, own = background(plain), background(name="own", timeout=3)(plain)
    assert (policies.of(unlimited.name).limit, policies.of(own.name).limit) == (None, 3)
    settings.MAX_RUN_TIME = 60
    assert (policies.of(unlimited.name).limit, policies.of(own.name).limit) == (60, 3)
    settings.BACKGROUND_TASK_MAX_RUN_TIME = 90
    assert policies.of(unlimited.name).limit == 90


def test_the_prefixed_setting_goes_first(settings: Any) -> None:
    assert conf.max_attempts() == 25
    settings.MAX_ATTEMPTS = 3
    settings.BACKGROUND_TASK_MAX_ATTEMPTS = 2
    assert conf.max_attempts() == 2


def test_the_backoff_grows_and_is_spread_by_a_tenth() -> None:
    assert retry_delay(3, jitter=lambda: 0.0) == timedelta(seconds=86)
    assert retry_delay(3, jitter=lambda: 1.0) == timedelta(seconds=94.6)
    assert retry_delay(2**31, jitter=lambda: 1.0) == timedelta(days=365)


@pytest.mark.parametrize(
    ("late", "slots"), [(0, 1), (59, 1), (60, 1), (61, 2), (3600, 60), (31536000, 525600)]
)
def test_the_next_run_is_the_first_slot_that_is_not_past(late: int, slots: int) -> None:
    start = timezone.now()
    now = start + timedelta(seconds=late)
    assert next_run(start, 60, now) == start + slots * timedelta(minutes=1)


@pytest.mark.parametrize("queue", [5, ["mails"], b"mails"])
def test_a_queue_that_is_no_text_is_refused_where_the_task_is_declared(queue: Any) -> None:
    with pytest.raises(exceptions.InvalidOption, match=r"queue of task .*: give its name, a text"):
        background(queue=queue)(plain)
