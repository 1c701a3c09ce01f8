"""What cannot be a task is refused where it is declared, with a text that says what to do."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from background_task.tasks import tasks as registry
from django.db import connection
from django.utils import timezone

from bgtasks import background, exceptions
from bgtasks.models import Outcome, Task
from bgtasks.queue import sequences


def plain(number: int = 0) -> int:
    return number


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


async def coroutine(number: int) -> int:
    return number


def nested() -> Callable[[], None]:
    def inside() -> None: ...

    return inside


class Shop:
    def method(self) -> None: ...

    @classmethod
    def class_method(cls) -> None: ...


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(registry._tasks)
    yield
    registry._tasks.clear()
    registry._tasks.update(before)


@pytest.mark.parametrize(
    ("function", "error", "advice"),
    [
        (lambda: None, exceptions.LambdaTask, "def name"),
        (nested(), exceptions.NestedTask, "top of the module"),
        (Shop.method, exceptions.MethodTask, "primary key"),
        (Shop.class_method, exceptions.MethodTask, "primary key"),
        (generator, exceptions.GeneratorTask, "Loop inside"),
        (async_generator, exceptions.GeneratorTask, "Loop inside"),
    ],
)
def test_a_function_that_no_worker_could_run_is_refused(
    function: Any, error: type[exceptions.InvalidTask], advice: str
) -> None:
    with pytest.raises(error, match=advice) as refused:
        background(function)
    assert function.__module__ in str(refused.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"backoff": -1}, "backoff"),
        ({"backoff": []}, "backoff"),
        ({"backoff": [1, None]}, "backoff"),
        ({"backoff": "60"}, "backoff"),
        ({"unique": "yes"}, "unique"),
        ({"on_worker_lost": "ignore"}, "on_worker_lost"),
        ({"priority": "high"}, "priority"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_its_name(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(exceptions.InvalidOption, match=f"^{named} of task .*plain"):
        background(**options)(plain)
    assert f"{__name__}.plain" not in registry._tasks


def test_a_coroutine_is_not_called_where_nobody_awaits_it() -> None:
    task = background(coroutine)
    with pytest.raises(exceptions.AsyncCall, match=r"coroutine\.task_function"):
        task.now(7)
    assert async_to_sync(task.task_function)(7) == 7  # as that error advises


# --- calls


@pytest.mark.parametrize(
    ("options", "call", "statements"),
    [
        ({}, lambda task: task(7), 1),
        ({}, lambda task: task.delay(7), 1),
        ({}, lambda task: task.apply_async([7], countdown=60, priority=3, queue="q"), 1),
        ({"unique": True}, lambda task: task(7), 2),
        ({}, lambda task: task.apply_async([7], expires=60), 2),
        ({}, lambda task: task.apply_async([7], timeout=60), 2),
    ],
)
def test_a_call_is_one_statement_and_two_where_it_asks_for_more(
    db: None,
    django_assert_num_queries: Any,
    options: dict[str, Any],
    call: Callable[[Any], Any],
    statements: int,
) -> None:
    task = background(**options)(plain)
    with django_assert_num_queries(statements + (2 if statements > 1 else 0)) as captured:
        call(task)
    kinds = [query["sql"].partition(" ")[0] for query in captured.captured_queries]
    assert kinds.count("INSERT") == statements
    assert set(kinds) <= {"INSERT", "SAVEPOINT", "RELEASE"}  # a savepoint: this is in a test


@pytest.mark.parametrize(
    "options", [{"countdown": 1, "eta": None, "expires": -1}, {"countdown": "soon"}]
)
def test_a_call_that_makes_no_sense_is_refused(db: None, options: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidOption):
        background(plain).apply_async([7], **options)
    assert not Task.objects.filter(task_name=f"{__name__}.plain").exists()


# --- ids


@pytest.mark.django_db(transaction=True)
def test_no_id_is_given_out_twice_after_the_table_was_remade() -> None:
    task = background(plain)
    last = task(7).pk
    Outcome.objects.create(
        task_id=last + 1000,
        completed_id=1,
        state="succeeded",
        attempts=1,
        finished_at=timezone.now(),
    )
    sequences.lift(connection)
    assert task(7).pk == last + 1001
    sequences.lift(connection)  # never back
    assert task(7).pk == last + 1002


# --- calls


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["__call__", "delay", "map"])
def test_arguments_that_the_function_does_not_take_are_refused_at_the_call(call: str) -> None:
    task = background(plain)
    wrong: list[Any] = [1, 2] if call != "map" else [[1], [2]]
    with pytest.raises(exceptions.WrongArguments, match=r"plain\(number: .*too many"):
        getattr(task, call)(*wrong)
    with pytest.raises(TypeError, match="schdule"):
        task(1, schdule=60)
    assert not Task.objects.filter(task_name=task.name).exists()
    task.map([1], priority=3)
    task(number=1, schedule=60)


@pytest.mark.django_db
def test_a_wrapper_is_called_with_what_it_takes_itself() -> None:
    @functools.wraps(plain)
    def wrapper(*args: Any) -> Any: ...

    registry.background(name="wrapper")(wrapper)(1, 2, 3)
    wrapper.__qualname__ = "wrapper"
    background(name="ours")(wrapper)(1, 2, 3)
    assert Task.objects.filter(task_name__in=["wrapper", "ours"]).count() == 2


@pytest.mark.django_db
def test_p9_what_is_declared_as_ever_is_called_as_ever() -> None:
    registry.background(name="as ever")(plain)(1, 2, 3)
    assert Task.objects.filter(task_name="as ever").exists()


def test_a_delay_is_no_name() -> None:
    with pytest.raises(exceptions.InvalidOption, match="schedule="):
        background(60)(plain)  # type: ignore[call-overload]
