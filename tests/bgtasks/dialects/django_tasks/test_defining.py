"""Defining Django's own tasks."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import django
import pytest
from background_task.tasks import tasks as registry
from django.utils import timezone

from bgtasks.tasks import policies

if django.VERSION >= (6,):
    from django import tasks as framework
    from django.tasks import base
    from django.tasks.exceptions import InvalidTask
else:
    import django_tasks as framework
    from django_tasks import base
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
from tests.bgtasks.dialects.django_tasks.helpers import APP, BACKEND, READY, TASKS, backend, declare


def plain() -> None: ...


def other() -> None: ...


def with_context(context: Any, number: int) -> None: ...


def a_generator() -> Iterator[None]:
    yield


def test_the_decorator_makes_a_task(tasks: Any) -> None:
    assert isinstance(tasks.double, base.Task)
    assert (tasks.double.priority, tasks.double.queue_name) == (0, "default")
    assert (tasks.double.backend, tasks.double.run_after) == ("default", None)
    assert (tasks.double.name, tasks.double.takes_context) == ("double", False)
    assert tasks.double.module_path == f"{APP}.tasks.double"
    assert (tasks.urgent.priority, tasks.urgent.queue_name) == (5, "default")


def test_a_task_is_known_to_the_worker_when_it_is_declared(tasks: Any) -> None:
    assert registry._tasks[f"{APP}.tasks.double"].django_task is tasks.double


def test_a_task_cannot_be_changed(tasks: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        tasks.double.priority = 3


def test_using_makes_another_task_and_leaves_the_first(tasks: Any, settings: Any) -> None:
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": ["default", "slow"]}}
    moment = timezone.now()
    copy = tasks.double.using(priority=10, queue_name="slow", run_after=moment)
    assert (copy.priority, copy.queue_name, copy.run_after) == (10, "slow", moment)
    assert copy.func is tasks.double.func
    assert (tasks.double.priority, tasks.double.queue_name) == (0, "default")


def test_a_task_can_be_compared_hashed_and_copied(tasks: Any) -> None:
    assert tasks.flaky == replace(tasks.flaky)
    assert tasks.flaky != tasks.flaky.using(priority=1)
    assert len({tasks.flaky, replace(tasks.flaky)}) == 1
    changed = tasks.flaky.using(priority=3)
    assert deepcopy(changed) == changed
    if django.VERSION >= (6, 1):  # before, no task could be pickled
        assert pickle.loads(pickle.dumps(changed)) == changed
    assert hash(declare(with_context, takes_context=True, backoff=[1, 2]))


def test_a_function_inside_another_cannot_be_a_task() -> None:
    def nested() -> None: ...

    with pytest.raises(InvalidTask, match="module level"):
        declare(nested)


def test_what_would_never_run_cannot_be_a_task() -> None:
    a_lambda = lambda: None  # noqa: E731
    a_lambda.__qualname__ = "<lambda>"
    for function in (len, SimpleNamespace.__init__, a_generator, a_lambda):
        with pytest.raises(InvalidTask):
            declare(function)
    assert f"{__name__}.a_generator" not in registry._tasks


def test_a_task_that_takes_the_context_has_an_argument_for_it() -> None:
    with pytest.raises(InvalidTask, match="context"):
        declare(plain, takes_context=True)


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_a_priority_is_a_whole_number_from_minus_100_to_100(tasks: Any, priority: Any) -> None:
    with pytest.raises(InvalidTask, match="priority"):
        declare(plain, priority=priority)
    with pytest.raises(InvalidTask, match="priority"):
        tasks.double.using(priority=priority)


def test_a_queue_must_be_one_of_the_setting(tasks: Any, settings: Any) -> None:
    with pytest.raises(InvalidTask, match="'slow'"):
        tasks.double.using(queue_name="slow")
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": []}}
    assert tasks.double.using(queue_name="slow").queue_name == "slow"  # an empty list: any


def test_a_time_without_its_zone_is_refused(tasks: Any) -> None:
    with pytest.raises(InvalidTask, match="aware"):
        tasks.double.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001


def test_the_decorator_takes_no_time() -> None:
    with pytest.raises(TypeError):
        declare(plain, run_after=timezone.now())


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="max_retries"):
        declare(plain, max_retries=3)


def test_an_option_that_makes_no_sense_is_an_invalid_task() -> None:
    with pytest.raises(InvalidTask, match="max_attempts"):
        declare(plain, max_attempts=0)


def test_of_one_function_there_is_one_task(tasks: Any) -> None:
    first = declare(other, max_attempts=2)
    assert declare(other, max_attempts=2, priority=7).priority == 7
    with pytest.raises(InvalidTask, match="other options"):
        declare(other, max_attempts=3)
    assert policies.of(first.module_path).max_attempts == 2


def test_a_task_has_one_attempt_unless_it_or_the_setting_says_more(
    tasks: Any, settings: Any
) -> None:
    assert policies.of(tasks.double.module_path).max_attempts == 1
    assert policies.of(tasks.flaky.module_path).max_attempts == 3
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": {"max_attempts": 4}}}
    assert backend().policy(tasks.double).max_attempts == 4
    assert backend().policy(tasks.flaky).max_attempts == 3
    settings.TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": {"max_attempts": None}}}
    assert backend().policy(tasks.double).most_attempts == 25


def test_a_task_of_another_backend_is_refused_for_no_worker_would_know_it(
    tasks: Any, settings: Any
) -> None:
    dummy = f"{framework.__name__}.backends.dummy.DummyBackend"
    settings.TASKS = {**TASKS, "dummy": {"BACKEND": dummy}}
    task = declare(plain, backend="dummy")
    with pytest.raises(InvalidTask, match=r'@task\(backend="default"\)'):
        task.using(backend="default")
    assert tasks.double.using(backend="dummy").enqueue(1).status == READY
