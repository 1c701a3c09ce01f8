"""`background`: the decorator, its options, and the registry of tasks.

The registry is django-background-tasks' own, so that tasks declared with either package's
decorator are the same tasks.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, overload

from background_task import signals
from background_task import tasks as stock
from background_task.models import Task
from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import module_has_submodule

from bgtasks import conf, declarations, policies
from bgtasks.exceptions import DuplicateTask, InvalidOption, NotJSON, TaskModuleError, seconds
from bgtasks.policies import Backoff, Policy
from bgtasks.queue import database, enqueue, unique
from bgtasks.results import AsyncResult

# Taken off a call's keyword arguments before the function's own; `schedule` besides.
CALL_OPTIONS = (
    "priority",
    "queue",
    "verbose_name",
    "creator",
    "repeat",
    "repeat_until",
    "remove_existing_tasks",
)


P = ParamSpec("P")
R = TypeVar("R")


class BackgroundTask(Protocol[P, R]):
    """What a decorated function is: `TaskProxy`, for type checkers."""

    name: str
    queue: str | None
    task_function: Callable[P, R]
    now: Callable[P, R]

    def __call__(self, *args: Any, **kwargs: Any) -> Task:
        """Enqueue; the call's options stand among the function's own arguments."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult: ...

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult: ...

    def map(self, *iterables: Iterable[Any], **kwargs: Any) -> list[Task]: ...


@overload
def background(name: Callable[P, R], /) -> BackgroundTask[P, R]: ...


@overload
def background(
    name: str | None = None,
    schedule: Any = None,
    queue: str | None = None,
    remove_existing_tasks: bool = False,
    *,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    timeout: float | None = None,
    unique: bool | Callable[..., Any] = False,
    cron: str | None = None,
    on_worker_lost: Literal["rerun", "fail"] = "rerun",
    priority: int = 0,
    ignore_result: bool = False,
) -> Callable[[Callable[P, R]], BackgroundTask[P, R]]: ...


def background(
    name: str | Callable[..., Any] | None = None,
    schedule: Any = None,
    queue: str | None = None,
    remove_existing_tasks: bool = False,
    *,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    timeout: float | None = None,
    unique: bool | Callable[..., Any] = False,
    cron: str | None = None,
    on_worker_lost: Literal["rerun", "fail"] = "rerun",
    priority: int = 0,
    ignore_result: bool = False,
) -> Any:
    """Turn a function into a task: calling it writes a row, and a worker runs it later.

    With or without brackets. ``task.now(...)`` runs the function here; ``task.delay(...)``
    enqueues as a call does and returns an `AsyncResult` instead of the row.

    Args:
        name: what rows call it; by default ``module.function``. Rows that wait carry it, so
            keep it when the function moves.
        schedule: the default delay: seconds, a timedelta, a datetime, a dict or a
            ``TaskSchedule``.
        queue: the queue that its rows go to.
        remove_existing_tasks: a call replaces rows that wait for the same call.
        max_attempts: how often it is tried at most. None: `MAX_ATTEMPTS`, 25. What was lost with
            its worker runs again in any case.
        backoff: seconds before the next try; a list of them; or a function of the exception and
            the `AsyncResult` that returns them, or None for no more. Up to a tenth is added.
            None: ``attempts ** 4 + 5``.
        timeout: seconds that a run may take. None: `MAX_RUN_TIME`, if the project sets that.
        unique: at most one row for the same arguments waits or runs, and a call returns that; or
            a function of the arguments that returns the key, a JSON value.
        cron: when to enqueue it without arguments, as in crontab(5), in the project's time zone.
        on_worker_lost: "fail": it does not run again when its worker has died.
        priority: of its rows, unless the call names one.
        ignore_result: do not keep what it returns.

    Raises:
        InvalidTask: this function cannot be a task, or an option makes no sense; the text of the
            subclass says what to do.
    """
    policy = Policy(
        max_attempts=max_attempts,
        backoff=backoff,
        timeout=timeout,
        unique=unique,
        cron=cron,
        on_worker_lost=on_worker_lost,
        priority=priority,
        result="ignore" if ignore_result else "json",
    )
    return declare(stock.tasks, name, schedule, queue, remove_existing_tasks, policy=policy)


def declare_as_ever(
    registry: Any,
    name: str | Callable[..., Any] | None = None,
    schedule: Any = None,
    queue: str | None = None,
    remove_existing_tasks: bool = False,
    **options: Any,
) -> Any:
    """Takes the place of ``Tasks.background``, with the same options besides as ours.

    What such tasks return never meant anything: what is not JSON is dropped, and where the
    function stands is the project's own affair.
    """
    policy = Policy(result="if-json", **options)
    return declare(registry, name, schedule, queue, remove_existing_tasks, policy, anywhere=True)


def declare(
    registry: Any,
    name: str | Callable[..., Any] | None = None,
    schedule: Any = None,
    queue: str | None = None,
    remove_existing_tasks: bool = False,
    policy: Policy = policies.DEFAULT,
    anywhere: bool = False,
) -> Any:
    """What ``background`` does, for any registry.

    Args:
        anywhere: also a function that a worker could not find by importing its module.

    Raises:
        InvalidTask: see `background`.
    """
    if callable(name):
        return declare(registry, policy=policy, anywhere=anywhere)(name)
    if not isinstance(name, str | None):
        raise InvalidOption(
            f"The name of a task is {name!r}. Give a text. A delay is @background(schedule=...)."
        )

    def decorate(function: Callable[..., Any]) -> Any:
        task_name = name or f"{function.__module__}.{function.__name__}"
        if not anywhere:
            declarations.check_function(task_name, function)
        declarations.check_policy(task_name, policy, function)
        check_name(registry, task_name, function)
        proxy = registry._task_proxy_class(
            task_name, function, schedule, queue, remove_existing_tasks, registry._runner
        )
        proxy.now = declarations.callable_now(task_name, function)
        # Name, docstring, signature; not its __dict__, whose names could be the proxy's own.
        functools.update_wrapper(proxy, function, updated=())
        if not anywhere:
            proxy._bgtasks_signature = declarations.signature_of(function)
        registry._tasks[task_name] = proxy
        policies.declare(task_name, policy)
        return proxy

    return decorate


def check_name(registry: Any, name: str, function: Callable[..., Any]) -> None:
    """Refuse a second function for a name.

    Raises:
        GeneratorTask, DuplicateTask
    """
    declarations.check_runnable(name, function)
    other = registry._tasks.get(name)
    if other is None or "<locals>" in function.__qualname__:
        return
    theirs = other.task_function
    if _identity(theirs) != _identity(function) and "<locals>" not in theirs.__qualname__:
        raise DuplicateTask(
            f"{'.'.join(_identity(function))} and {'.'.join(_identity(theirs))} both want to be "
            f"the task {name}. Give one of them another name: @background(name=...)."
        )


def _identity(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def call(proxy: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Enqueue a call of a task: takes the place of ``TaskProxy.__call__``.

    Returns:
        The row; with CHECK_EXISTING, RESCHEDULE_EXISTING or `unique`, the one that was there.

    Raises:
        NotJSON: an argument is not JSON.
        WrongArguments: the function does not take these.
        InvalidOption: an option makes no sense.
    """
    run_at, action, options = _call_options(proxy, kwargs)
    return _schedule(proxy, args, kwargs, run_at, action, options)


def submit(
    proxy: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    run_at: datetime | None = None,
    options: Mapping[str, Any] | None = None,
    **columns: Any,
) -> Any:
    """Enqueue a call whose options stand apart from its arguments: the way of every dialect.

    Args:
        run_at: not before then; None: what the task's own schedule says.
        options: what only this call asks for: ``timeout`` (seconds), ``expires`` (seconds since
            the epoch), ``then`` (the name of a task that gets the row's id when this has ended).
        columns: as in a call: ``priority``, ``queue``, ``verbose_name``, ``creator``.

    Returns:
        The row.

    Raises:
        NotJSON: an argument is not JSON.
        InvalidOption: an option makes no sense.
    """
    given = {name: value for name, value in columns.items() if value is not None}
    if run_at is not None:
        given["schedule"] = run_at
    own_run_at, action, own = _call_options(proxy, given)
    if (timeout := (options or {}).get("timeout")) is not None:
        declarations.check_timeout(proxy.name, timeout)
    return _schedule(proxy, tuple(args), dict(kwargs or {}), own_run_at, action, own, options)


def delay(proxy: Any, *args: Any, **kwargs: Any) -> AsyncResult:
    """Enqueue a call with these arguments, all of them the function's own.

    Raises:
        NotJSON: an argument is not JSON.
    """
    return AsyncResult(submit(proxy, args, kwargs).pk)


def apply_async(
    proxy: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    countdown: float | timedelta | None = None,
    eta: datetime | None = None,
    queue: str | None = None,
    priority: int | None = None,
    expires: float | timedelta | datetime | None = None,
    timeout: float | None = None,
    creator: Any = None,
    verbose_name: str | None = None,
) -> AsyncResult:
    """Enqueue a call.

    Args:
        countdown: seconds from now, or a timedelta, before which it does not start.
        eta: or the time itself.
        expires: a time, or seconds from now, after which it is not started any more but
            cancelled.
        timeout: seconds that this run may take, instead of what the task says.

    Raises:
        NotJSON: an argument is not JSON.
        InvalidOption: an option makes no sense, or `countdown` and `eta` are both given.
    """
    options = {"expires": _epoch(expires), "timeout": timeout}
    row = submit(
        proxy,
        args,
        kwargs,
        run_at=_start(proxy, countdown, eta),
        options={name: value for name, value in options.items() if value is not None},
        queue=queue,
        priority=priority,
        creator=creator,
        verbose_name=verbose_name,
    )
    return AsyncResult(row.pk)


def _start(
    proxy: Any, countdown: float | timedelta | None, eta: datetime | None
) -> datetime | None:
    if countdown is None:
        return eta
    if eta is not None:
        raise InvalidOption(f"countdown and eta of a call of {proxy.name}: give one of them.")
    return timezone.now() + seconds(countdown)


def _epoch(moment: float | timedelta | datetime | None) -> float | None:
    if moment is None:
        return None
    if isinstance(moment, datetime):
        return (aware(moment, "a call", "expires") or moment).timestamp()
    return timezone.now().timestamp() + seconds(moment).total_seconds()


def _schedule(
    proxy: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    run_at: datetime | None,
    action: int,
    columns: dict[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Any:
    declarations.check_arguments(proxy, args, kwargs)
    # Only where they are used: a project's own runner may know nothing of them.
    more: dict[str, Any] = {"options": options} if options else {}
    if (key := _unique_key(proxy, args, kwargs)) is not None:
        _refuse_looking_for_existing(proxy, action, columns)
        more["unique_key"] = key
    row = proxy.runner.schedule(
        proxy.name, args, kwargs, run_at=run_at, action=action, **columns, **more
    )
    _run_if_eager(row)
    return row


def _run_if_eager(*rows: Any) -> None:
    if conf.eager():
        # By its name, for it stands above this module. Only tests need it.
        testing = import_module("bgtasks.testing")
        for row in rows:
            testing.run_eagerly(row)


def _refuse_looking_for_existing(proxy: Any, action: int, columns: dict[str, Any]) -> None:
    if action != stock.TaskSchedule.SCHEDULE or columns.get("remove_existing_tasks"):
        raise InvalidOption(
            f"{proxy.name} is unique: a call returns the row that waits or runs. Leave out the "
            "schedule's action and remove_existing_tasks, or unique."
        )


def _unique_key(proxy: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    chosen = policies.of(proxy.name).unique
    if chosen is False:
        return None
    value = chosen(*args, **kwargs) if callable(chosen) else [args, kwargs]
    try:
        return unique.key_of(proxy.name, value)
    except (TypeError, ValueError, RecursionError) as error:
        if chosen is True:  # of the arguments themselves: the row will name the one
            enqueue.parameters(proxy.name, args, kwargs)
        raise NotJSON(
            f"The unique key of {proxy.name} is {value!r}, which is not JSON: {error}"
        ) from error


def _call_options(
    proxy: Any, kwargs: dict[str, Any]
) -> tuple[datetime | None, int, dict[str, Any]]:
    """Take a call's options off its keyword arguments: when, which action, and the others."""
    schedule = stock.TaskSchedule.create(kwargs.pop("schedule", None)).merge(proxy.schedule)
    options = {name: kwargs.pop(name) for name in CALL_OPTIONS if name in kwargs}
    own = policies.of(proxy.name).priority if schedule._priority is None else schedule.priority
    options.setdefault("priority", own)
    options.setdefault("queue", proxy.queue)
    options.setdefault("remove_existing_tasks", proxy.remove_existing_tasks)
    run_at = aware(schedule.run_at, proxy.name, "schedule")
    options["repeat_until"] = aware(options.get("repeat_until"), proxy.name, "repeat_until")
    return run_at, schedule.action, options


def create_schedule(cls: type, schedule: Any) -> Any:
    """Takes the place of ``TaskSchedule.create``: 0 is a delay too, and so are fractions."""
    if isinstance(schedule, stock.TaskSchedule):
        return schedule
    if not isinstance(schedule, Mapping):
        schedule = {"run_at": schedule}
    run_at = schedule.get("run_at")
    # An integer stays one: it is shown, and compared.
    if isinstance(run_at, float) or run_at == 0:
        run_at = timedelta(seconds=run_at)
    return cls(run_at=run_at, priority=schedule.get("priority"), action=schedule.get("action"))


def repeat_seconds(name: str, repeat: int | float | timedelta | None) -> int:
    """The interval of a repeating row, in whole seconds; 0 for none.

    Raises:
        InvalidOption: it is no number of whole seconds, or negative.
    """
    value = repeat.total_seconds() if isinstance(repeat, timedelta) else repeat or 0
    if not isinstance(value, int | float) or value < 0 or value != int(value):
        raise InvalidOption(
            f"repeat of {name} is {repeat!r}: give whole seconds, 1 or more, or a timedelta of "
            "them."
        )
    return int(value)


def call_each(proxy: Any, *iterables: Iterable[Any], **kwargs: Any) -> list[Task]:
    """Enqueue many calls at once: ``task.map(a, b)`` is ``task(x, y)`` for each x of a and y of b.

    In one transaction, so that all exist or none. Where nobody listens to rows being saved, a few
    statements insert them all; of a unique task each call looks for its key.

    Args:
        iterables: the positional arguments: an iterable for each, all of the same length.
        kwargs: as in a call: its options, and keyword arguments that are the same for all.

    Returns:
        The rows, in the order of the items.

    Raises:
        NotJSON: an argument is not JSON.
        ValueError: the iterables differ in length, or waiting rows were to be looked for.
    """
    run_at, action, options = _call_options(proxy, kwargs)
    if action != stock.TaskSchedule.SCHEDULE or options.pop("remove_existing_tasks"):
        raise ValueError(
            f"{proxy.name}.map() does not look for rows that wait for the same call. To check, "
            "reschedule or replace those, call the task once for each item."
        )
    calls = list(zip(*iterables, strict=True))
    for args in calls[:1]:  # the others have as many
        declarations.check_arguments(proxy, args, kwargs)
    if policies.of(proxy.name).unique is not False:
        with transaction.atomic(using=database.alias()):
            return [_schedule(proxy, args, kwargs, run_at, action, options) for args in calls]
    params = [enqueue.parameters(proxy.name, args, kwargs) for args in calls]
    options["repeat"] = repeat_seconds(proxy.name, options.get("repeat"))
    like = Task(task_name=proxy.name, run_at=run_at, **options)
    rows = enqueue.insert_many(like, params)
    for row in rows if signals.task_created.receivers else ():
        signals.task_created.send(sender=proxy.runner.__class__, task=row)
    _run_if_eager(*rows)
    return rows


def aware(value: datetime | None, name: str, option: str) -> datetime | None:
    """A time with its zone. A naive one under USE_TZ is taken as local, with a warning."""
    if isinstance(value, datetime) and settings.USE_TZ and timezone.is_naive(value):
        warnings.warn(
            f"{option} of task {name} is {value}, without a time zone, while USE_TZ is on. It is "
            f"taken as {timezone.get_current_timezone_name()}; use django.utils.timezone.now().",
            RuntimeWarning,
            stacklevel=4,
        )
        return timezone.make_aware(value)
    return value


def is_coroutine(name: str) -> bool:
    """Whether a task runs in the event loop. One that is not known does not."""
    proxy = stock.tasks._tasks.get(name)
    return proxy is not None and iscoroutinefunction(proxy.task_function)


def names() -> list[str]:
    """The tasks that this process knows."""
    return list(stock.tasks._tasks)


def find(name: str) -> Any:
    """The task of that name.

    Raises:
        KeyError: there is none here.
    """
    return stock.tasks._tasks[name]


def autodiscover() -> None:
    """Import every app's ``tasks.py``, so that its tasks are known.

    Raises:
        TaskModuleError: the first that cannot be imported.
    """
    for error in import_task_modules():
        raise error


# Modules of ours that declare tasks. By name, for they stand above this one.
OWN_TASKS = ("bgtasks.dialects.django_q", "bgtasks.mail")


def import_task_modules() -> Iterator[TaskModuleError]:
    """Import every app's ``tasks.py``; yields an error for each that cannot be imported."""
    for module in OWN_TASKS:
        import_module(module)
    for app in apps.get_app_configs():
        if not module_has_submodule(app.module, "tasks") or app.name in {
            "bgtasks",
            "background_task",
        }:
            continue
        try:
            import_module(f"{app.name}.tasks")
        except Exception as error:
            failure = TaskModuleError(
                f"{app.name}.tasks cannot be imported ({type(error).__name__}: {error}). The tasks "
                "in it are unknown to this worker, and their rows wait."
            )
            failure.__cause__ = error
            yield failure
