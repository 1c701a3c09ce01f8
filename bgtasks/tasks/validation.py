"""What is wrong with a task, found where it is declared."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from inspect import (
    Signature,
    isasyncgenfunction,
    iscoroutinefunction,
    isfunction,
    isgeneratorfunction,
    signature,
)
from typing import Any
from weakref import WeakKeyDictionary

from background_task import tasks as upstream

from bgtasks.exceptions import (
    LONGEST,
    AsyncCall,
    GeneratorTask,
    InvalidOption,
    LambdaTask,
    MethodTask,
    NestedTask,
    ObjectTask,
    WrongArguments,
)
from bgtasks.tasks import columns, crontab
from bgtasks.tasks.policies import Policy


def check_runnable(name: str, function: Callable[..., Any]) -> None:
    """Refuse a generator function: it would never run, and each call would count as a success.

    Raises:
        GeneratorTask: it is one.
    """
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise GeneratorTask(
            f"{name} is a generator function: calling it does nothing until somebody iterates. "
            "Loop inside an ordinary function."
        )


def is_declared(value: Any) -> bool:
    """Whether this is a task already, of any dialect."""
    return isinstance(getattr(value, "proxy", value), upstream.TaskProxy)


def as_function(function: Any, name: str = "", anywhere: bool = False) -> Any:
    """The function of a task: what its decorator stands above, of a static method what is in it.

    Args:
        name: the name that the task was given; empty: none.
        anywhere: whether upstream's decorator declares it, which takes whatever can be called, if
            it has a name.

    Raises:
        ObjectTask: it is no function, but a partial, another object, a task or a class.
        MethodTask: it is a class method or a property.
    """
    if isinstance(function, staticmethod):
        return as_function(function.__func__, name, anywhere)
    kind = type(function).__name__
    if isinstance(function, classmethod | property):
        raise MethodTask(
            f"The decorator of a task stands above a {kind}, which has no class or object there "
            "that it could be called with. Write a function at the top of the module, and let that "
            "call the method."
        )
    other = getattr(function, "proxy", function)
    if is_declared(function) and not (anywhere and name and name != other.name):
        raise ObjectTask(f"{function} is a task already: use one decorator.")
    if isinstance(function, type) and not anywhere:
        raise ObjectTask(
            f"{function.__module__}.{function.__qualname__} is a class, and the object that it "
            "would make cannot be kept as a result. Write a function that makes it."
        )
    if not callable(function):
        raise ObjectTask(f"{function!r} is of type {kind}, and a task is a function.")
    if not (name and anywhere) and not hasattr(function, "__name__"):
        raise ObjectTask(
            f"{function!r} is of type {kind} and no function, so it has no name by which a worker "
            "could find it. Write `def name(...):` at the top of the module, and let that call it."
        )
    return function


def check_task_name(name: str) -> None:
    """Refuse a name that a row cannot carry, or by which the database could not find it.

    Raises:
        InvalidOption: this database cannot hold it, or it has a NUL.
    """
    columns.as_text(name, name, "task_name")
    if "\x00" in name:  # SQLite holds it, and its functions stop reading there
        columns.check_text(name, name, "task_name")


def path_of(function: Any) -> tuple[str, str]:
    """The module of a function and its name there; of another object, those of its class."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return module, getattr(function, "__qualname__", type(function).__qualname__)


def check_function(name: str, function: Callable[..., Any]) -> None:
    """Refuse a function that a worker could not find by importing its module.

    Raises:
        LambdaTask, NestedTask, MethodTask: it is a lambda, a nested function, a method.
    """
    _, path = path_of(function)
    if path.rpartition(".")[2] == "<lambda>":
        raise LambdaTask(
            f"A lambda in {function.__module__} cannot be a task: rows find their function by its "
            "name. Write `def name(...):` at the top of the module."
        )
    if "<locals>" in path:
        raise NestedTask(
            f"{name} ({path}) is made anew each time that the function around it runs, and a "
            "worker never runs that. Move it to the top of the module, and pass it what it needs "
            f"as arguments. {_decorated(function)}"
        )
    if "." in path:
        raise MethodTask(
            f"{name} ({path}) is a method, or a function in a class. A worker looks for functions "
            "at the top of a module, and a row cannot carry the object that a method needs. Write "
            "a function there that takes the object's primary key, and let that call the method."
        )


def _decorated(function: Any) -> str:
    """A sentence for error texts: what to do if the nested function is what a decorator returned.

    Such a function has the decorated one among the variables of the function around it.
    """
    advice = "write @functools.wraps(function) in the decorator, above the function that it returns"
    with suppress(ValueError):  # a variable that has no value yet
        for cell in getattr(function, "__closure__", None) or ():
            inner = cell.cell_contents
            if isfunction(inner) and "<locals>" not in inner.__qualname__:
                return f"If a decorator put it in the place of {inner.__qualname__}, {advice}."
    return f"If a decorator returned it, {advice}."


def check_policy(name: str, policy: Policy, function: Callable[..., Any]) -> None:
    """Refuse options that make no sense.

    Raises:
        InvalidOption: an option has a value that makes no sense; `InvalidCron` for ``cron``.
    """
    if policy.timeout is not None:
        check_timeout(name, policy.timeout)
    most = policy.max_attempts
    if most is not None and (not isinstance(most, int) or most < 1):
        raise InvalidOption(f"max_attempts of task {name} is {most!r}: it must be 1 or more.")
    if not callable(policy.backoff) and not _are_seconds(policy.backoff):
        raise InvalidOption(
            f"backoff of task {name} is {policy.backoff!r}. Give seconds, a list of them, or a "
            "function of the exception and the result that returns seconds or None."
        )
    if policy.cron is not None:
        crontab.check(policy.cron, name, function)
    _check_choices(name, policy)
    if not isinstance(policy.priority, int):
        raise InvalidOption(f"priority of task {name} is {policy.priority!r}: not an integer.")
    columns.as_priority(f"priority of task {name}", policy.priority)


def _check_choices(name: str, policy: Policy) -> None:
    """Refuse a value that an option does not allow.

    Raises:
        InvalidOption
    """
    if policy.on_worker_lost not in {"rerun", "fail"}:
        raise InvalidOption(
            f'on_worker_lost of task {name} is {policy.on_worker_lost!r}. Say "rerun" or "fail".'
        )
    if not isinstance(policy.unique, bool) and not callable(policy.unique):
        raise InvalidOption(
            f"unique of task {name} is {policy.unique!r}. Give True, or a function of the task's "
            "arguments that returns the key."
        )
    if not isinstance(policy.atomic, bool):
        raise InvalidOption(f"atomic of task {name} is {policy.atomic!r}. Give True or False.")


def _are_seconds(backoff: Any) -> bool:
    if backoff is None:
        return True
    if isinstance(backoff, Sequence) and not isinstance(backoff, str):
        return bool(backoff) and all(map(_are_seconds, backoff)) and None not in backoff
    return isinstance(backoff, int | float) and 0 <= backoff <= LONGEST.total_seconds()


def check_timeout(name: str, timeout: Any) -> None:
    """Refuse a time-out that is no number of seconds above 0, or is over `LONGEST`.

    Raises:
        InvalidOption: it is such a one.
    """
    if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST.total_seconds():
        raise InvalidOption(
            f"timeout of task {name} is {timeout!r}: give seconds, more than 0, or None for none."
        )


# What the functions of tasks take; without the tasks whose calls are not checked.
_signatures: WeakKeyDictionary[Any, Signature] = WeakKeyDictionary()


def keep_signature(proxy: Any) -> None:
    """Have `check_arguments` check the calls of this task, if its signature can be read."""
    with suppress(TypeError, ValueError):  # the function is written in C
        _signatures[proxy] = signature(proxy.task_function, follow_wrapped=False)


def check_arguments(proxy: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call whose arguments the task's function does not take.

    Calls of tasks that upstream's decorator has declared are not checked, as upstream does it.

    Raises:
        WrongArguments: it does not.
    """
    expected = _signatures.get(proxy)
    if expected is None:
        return
    try:
        expected.bind(*args, **kwargs)
    except TypeError as error:
        raise WrongArguments(f"{proxy.name}{expected} cannot be called so: {error}.") from None


def as_call(name: str, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call that were given as one value each, as copies.

    Args:
        name: the task's name, for the error text.
        args: the positional arguments; None for none.
        kwargs: the keyword arguments; None for none.

    Raises:
        WrongArguments: ``args`` is neither a list nor a tuple, so that a text would become an
            argument for each of its characters; or ``kwargs`` is no mapping of texts.
    """
    if not isinstance(args, list | tuple | None):
        hint = "a call with keyword arguments is " if isinstance(args, Mapping) else "one value is "
        hint += "apply_async(kwargs={...})" if isinstance(args, Mapping) else "apply_async([value])"
        raise WrongArguments(
            f"The positional arguments for {name} are of type {type(args).__name__}. Give a list "
            f"or tuple of them: {hint}."
        )
    if not isinstance(kwargs, Mapping | None):
        raise WrongArguments(
            f"The keyword arguments for {name} are of type {type(kwargs).__name__}. Give a dict."
        )
    for key in kwargs or ():
        if not isinstance(key, str):
            raise WrongArguments(f"A keyword argument for {name} is named {key!r}: give a text.")
    return tuple(args or ()), dict(kwargs or {})


def as_iterables(name: str, given: Sequence[Any]) -> Sequence[Iterable[Any]]:
    """The iterables of ``task.map()``, if each of them is one.

    Raises:
        WrongArguments: there are none, or one is a single value: a text, a mapping, a number.
    """
    if not given:
        raise WrongArguments(
            f"{name}.map() is called without arguments, so there is nothing to enqueue. Give a "
            "list for each argument of the function."
        )
    for place, value in enumerate(given, 1):
        if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
            raise WrongArguments(
                f"Argument {place} of {name}.map() is of type {type(value).__name__}. Give a list "
                "of values, one for each call: arguments that are the same for all calls stand "
                "among the keyword arguments."
            )
    return given


def callable_now(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function to be called as ``task.now``.

    For a coroutine function that is one that raises `AsyncCall` where no event loop runs.
    """
    if not iscoroutinefunction(function):
        return function
    called = getattr(function, "__name__", name)

    @functools.wraps(function)
    def now(*args: Any, **kwargs: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise AsyncCall(
                f"{name} is an `async def` task, and nobody here awaits it. Write "
                f"`await {called}.now(...)` in a coroutine, or elsewhere "
                f"`async_to_sync({called}.task_function)(...)`, from asgiref.sync."
            ) from None
        return function(*args, **kwargs)

    return now
