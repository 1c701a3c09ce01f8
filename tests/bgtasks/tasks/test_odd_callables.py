"""What can be called, or looks like it, and is no function that a worker could find."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import background_task
import pytest
from background_task.models import Task
from background_task.tasks import tasks as registry
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy, override

from bgtasks import background, exceptions
from bgtasks.dialects.celery import shared_task
from bgtasks.dialects.django_q import async_task
from bgtasks.dialects.django_tasks.framework import InvalidTask
from tests.bgtasks.dialects.django_tasks.helpers import TASKS, declare
from tests.conftest import run_queued


def plain(*args: Any) -> Any:
    return args


async def coroutine(*args: Any) -> Any:
    return args


class Caller:
    def __call__(self, *args: Any) -> Any:
        return args

    def method(self) -> None: ...

    @classmethod
    def class_method(cls) -> None: ...

    by_class = classmethod(plain)
    by_static = staticmethod(plain)

    @staticmethod
    def static(*args: Any) -> Any:
        return args

    @staticmethod
    async def static_coroutine(*args: Any) -> Any:
        return args

    by_property = property(plain)
    by_part = functools.partialmethod(method)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


def unwrapped_with_options(text: str) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any) -> Any:
            return function(*args, text)

        return inner

    return decorate


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


TASK = background(name="odd.ours")(plain)
CELERY_TASK = shared_task(name="odd.celerys")(plain)

# Each with the error and a part of what its text says.
ODD: dict[str, tuple[Any, type[Exception], str]] = {
    "a partial": (functools.partial(plain, 1), exceptions.ObjectTask, "partial and no function"),
    "a partial coroutine": (
        functools.partial(coroutine, 1), exceptions.ObjectTask, "partial and no function"
    ),
    "an object": (Caller(), exceptions.ObjectTask, "of type Caller and no function"),
    "a getter": (operator.itemgetter(1), exceptions.ObjectTask, "itemgetter and no function"),
    "a class": (Caller, exceptions.ObjectTask, "Caller is a class"),
    "a type": (dict, exceptions.ObjectTask, "dict is a class"),
    "a task": (TASK, exceptions.ObjectTask, "is a task already"),
    "a task of Celery's": (CELERY_TASK, exceptions.ObjectTask, "is a task already"),
    "a method": (Caller().method, exceptions.MethodTask, "is a method"),
    "a class's method": (Caller.class_method, exceptions.MethodTask, "is a method"),
    "a class method": (vars(Caller)["by_class"], exceptions.MethodTask, "above a classmethod"),
    "a static method": (
        vars(Caller)["static"], exceptions.MethodTask, "or a function in a class"
    ),
    "a property": (vars(Caller)["by_property"], exceptions.MethodTask, "above a property"),
    "a partial method": (
        vars(Caller)["by_part"], exceptions.ObjectTask, "partialmethod, and a task is a function"
    ),
    "what a decorator returned": (
        unwrapped(plain), exceptions.NestedTask, "in the place of plain, write @functools.wraps"
    ),
    "what a decorator with options returned": (
        unwrapped_with_options("x")(plain), exceptions.NestedTask, "place of plain, write @functool"
    ),
    "what is wrapped without": (
        unwrapped(wrapped(plain)), exceptions.NestedTask, "place of plain, write @functools.wraps"
    ),
}  # fmt: skip
DECORATORS = {
    "background": background,
    "background()": lambda odd: background()(odd),
    "background(name=...)": lambda odd: background(name="odd.name")(odd),
    "shared_task": shared_task,
    "shared_task()": lambda odd: shared_task()(odd),
    "shared_task(bind=True)": lambda odd: shared_task(bind=True, name="odd.name")(odd),
}


@pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS)
@pytest.mark.parametrize("odd", ODD)
def test_p8_what_is_no_function_is_refused_in_words(
    odd: str, decorator: Callable[[Any], Any]
) -> None:
    value, error, text = ODD[odd]
    before = dict(registry._tasks)
    with pytest.raises(error, match=text):
        decorator(value)
    assert registry._tasks == before


@pytest.mark.parametrize("odd", ODD)
def test_p8_what_is_no_function_is_refused_by_djangos_decorator(odd: str, settings: Any) -> None:
    settings.TASKS = TASKS
    with pytest.raises(InvalidTask):
        declare(ODD[odd][0])


@pytest.mark.parametrize("odd", [odd for odd in ODD if "task" not in odd])
def test_p8_what_is_no_function_is_not_enqueued_by_async_task(odd: str) -> None:
    with pytest.raises(exceptions.ForbiddenFunction, match=r"at the top of an installed app's"):
        async_task(ODD[odd][0])


@pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS)
@pytest.mark.parametrize("value", [b"name", [plain], 5, object(), {"name": 1}], ids=type)
def test_p8_what_cannot_be_called_is_refused_in_words(
    decorator: Callable[[Any], Any], value: Any
) -> None:
    with pytest.raises(exceptions.InvalidTask, match=r"a task is a function|The name of a task is"):
        decorator(value)


class Made(tuple[Any, ...]):
    """A class that can be called with a value, and whose objects are JSON."""

    def __new__(cls, *args: Any) -> Made:
        return super().__new__(cls, args)


NAMED = {
    "a static method": vars(Caller)["static"],
    "a static coroutine": vars(Caller)["static_coroutine"],
    "a function as a static method": vars(Caller)["by_static"],
    "a class": Made,
    "a partial": functools.partial(plain, 1),
    "a partial coroutine": functools.partial(coroutine, 1),
    "an object": Caller(),
    "what a decorator returned": unwrapped(plain),
    "what a decorator wrapped": wrapped(plain),
}


@pytest.mark.django_db
@pytest.mark.parametrize("function", NAMED.values(), ids=NAMED)
def test_p9_upstreams_decorator_takes_whatever_can_be_called_by_a_name(function: Any) -> None:
    Task.objects.all().delete()
    task = background_task.background(name="odd.as ever")(function)
    result = task.delay(2)
    run_queued()
    assert result.get()[-1] == 2


@pytest.mark.django_db
@pytest.mark.parametrize("bare", [False, True], ids=["with brackets", "without"])
@pytest.mark.parametrize(
    "function",
    [vars(Caller)["static"], vars(Caller)["static_coroutine"], vars(Caller)["by_static"], Made],
    ids=["a static method", "a static coroutine", "a function as a static method", "a class"],
)
def test_p9_upstreams_decorator_takes_what_has_a_name_of_its_own(function: Any, bare: bool) -> None:
    Task.objects.all().delete()
    decorator = background_task.background if bare else background_task.background()
    result = decorator(function).delay(2)
    run_queued()
    assert result.get() == [2]


@pytest.mark.django_db
@pytest.mark.parametrize("decorator", [background, background(), background(name="odd.static")])
def test_p9_our_decorator_takes_a_function_as_a_static_method(decorator: Any) -> None:
    Task.objects.all().delete()
    result = decorator(vars(Caller)["by_static"]).delay(2)
    run_queued()
    assert result.get() == [2]


@pytest.mark.django_db
@pytest.mark.parametrize("task", [TASK, CELERY_TASK], ids=["ours", "Celery's"])
def test_p9_upstreams_decorator_above_a_task_makes_one_of_another_name(task: Any) -> None:
    Task.objects.all().delete()
    outer = background_task.background(name="odd.outer")(task)
    outer(2)
    assert Task.objects.get().task_name == "odd.outer"
    run_queued()
    assert not Task.objects.exists()


@pytest.mark.parametrize("name", [None, "odd.ours"])
def test_p8_a_task_that_would_enqueue_itself_for_ever_is_refused(name: str | None) -> None:
    with pytest.raises(exceptions.ObjectTask, match="is a task already"):
        background_task.background(name=name)(TASK)


@pytest.mark.parametrize("kind", ["by_class", "by_property"])
def test_p8_what_no_decorator_could_call_is_refused_with_a_name_too(kind: str) -> None:
    with pytest.raises(exceptions.MethodTask, match="has no class or object there"):
        background_task.background(name="odd.method")(vars(Caller)[kind])


def test_p9_two_objects_of_one_name_are_refused_for_upstreams_decorator_too() -> None:
    background_task.background(name="odd.as ever")(Caller())
    with pytest.raises(exceptions.DuplicateTask, match=r"builtins\.len and .*Caller both want"):
        background_task.background(name="odd.as ever")(len)


def test_p8_upstreams_decorator_says_what_has_no_name() -> None:
    with pytest.raises(exceptions.ObjectTask, match="has no name by which a worker"):
        background_task.background(functools.partial(plain, 1))


# --- lazy translations


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value",
    [gettext_lazy("Yes"), [gettext_lazy("Yes")], {"a": gettext_lazy("Yes")}],
    ids=["alone", "in a list", "in a dict"],
)
@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("dialect", [background, shared_task])
def test_p9_a_lazy_translation_is_carried_as_its_text(
    value: Any, unique: bool, dialect: Any
) -> None:
    Task.objects.all().delete()
    task = dialect(**{"unique": True} if unique and dialect is background else {})(plain)
    with override("de"):
        result = task.delay(value, gettext_lazy("Monday"))
    assert "proxy" not in Task.objects.get().task_params
    run_queued()
    carried, day = result.get()
    assert "Ja" in str(carried)
    assert day == "Montag"


@pytest.mark.django_db
def test_p8_a_lazy_translation_without_a_text_is_named() -> None:
    def nowhere() -> str:
        raise LookupError("no such word")

    with pytest.raises(exceptions.NotJSON, match=r"Argument 1 of .*LookupError: no such word"):
        background(plain).delay(lazy(nowhere, str)())


@pytest.mark.django_db
def test_a_lazy_translation_that_has_our_tag_is_refused_as_such_a_text_is() -> None:
    with pytest.raises(exceptions.NotJSON, match="is reserved"):
        background(plain).delay({"a": gettext_lazy("x"), "__bgtasks__": "date"})
