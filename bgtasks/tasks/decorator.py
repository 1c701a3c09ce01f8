"""`background`: the decorator and its options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from background_task import tasks as upstream
from background_task.models import Task
from django.utils.functional import Promise

from bgtasks.exceptions import InvalidOption
from bgtasks.tasks import columns, policies, validation
from bgtasks.tasks import sensitive as masking
from bgtasks.tasks.policies import Backoff, Policy
from bgtasks.tasks.registry import check_name

if TYPE_CHECKING:
    from bgtasks.results import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")


class BackgroundTask(Protocol[P, R]):
    """What `background` returns, for type checkers. In fact it is upstream's ``TaskProxy``."""

    name: str
    queue: str | None
    task_function: Callable[P, R]
    now: Callable[P, R]

    def __call__(self, *args: Any, **kwargs: Any) -> Task:
        """Enqueue a call. Its options stand among the keyword arguments of the function."""

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult: ...

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult: ...

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult: ...

    async def aapply_async(
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
    sensitive: Sequence[str] = (),
    atomic: bool = False,
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
    sensitive: Sequence[str] = (),
    atomic: bool = False,
) -> Any:
    """Turn a function into a task: calling it inserts a row, and a worker runs it later.

    The decorator may be written with or without brackets. ``task.now(...)`` runs the function
    here; ``task.delay(...)`` enqueues as a call does, and returns an `AsyncResult` instead of the
    row.

    Args:
        name: the name by which rows refer to the task; by default ``module.function``. Waiting
            rows carry it, so keep it when the function moves to another module.
        schedule: the default delay: seconds, a timedelta, a datetime, a dict or a
            ``TaskSchedule``.
        queue: the queue of its rows; None for the default one.
        remove_existing_tasks: a call deletes the rows that wait for the same call.
        max_attempts: how often it is tried at most. None: `MAX_ATTEMPTS`, by default 25. A run
            that was lost with its worker is repeated in any case.
        backoff: seconds before the next attempt; or a list of seconds, one for each attempt, the
            last for all further ones; or a function of the exception and the `AsyncResult` that
            returns seconds, or None for no more attempts. Up to a tenth is added.
            None: ``attempts ** 4 + 5``.
        timeout: seconds that a run may take. None: `MAX_RUN_TIME`, if the project sets that.
        unique: True: at most one row for the same arguments waits or runs, and a call returns
            that row. Or a function of the arguments that returns a key, a JSON value: at most one
            row for each key.
        cron: when to enqueue it without arguments, as in crontab(5), in the project's time zone.
        on_worker_lost: "rerun": it runs again when its worker has died; "fail": it does not.
        priority: the priority of its rows, unless the call names one.
        ignore_result: do not keep what it returns.
        sensitive: the names of arguments whose values are masked wherever arguments are shown. A
            row keeps them as they are, and a traceback may quote them.
        atomic: what a run writes to the database of the queue, what it enqueues and its success
            are one transaction: they happen once, or not at all. See `bgtasks.running.atomic`.

    Raises:
        InvalidTask: this function cannot be a task, or an option makes no sense. The error is of
            a subclass, whose text says what to do.
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
        sensitive=sensitive,
        atomic=atomic,
    )
    return declare(upstream.tasks, name, schedule, queue, remove_existing_tasks, policy=policy)


# The policy of a task of upstream's decorator, unless it has our further options.
AS_EVER = Policy(result="if-json")


def declare_as_ever(
    registry: Any,
    name: str | Callable[..., Any] | None = None,
    schedule: Any = None,
    queue: str | None = None,
    remove_existing_tasks: bool = False,
    **options: Any,
) -> Any:
    """Takes the place of upstream's ``Tasks.background``, and has our further options too.

    Upstream ignores what its tasks return: so a result that is not JSON is dropped here, and fails
    no task. Upstream takes any function as well: so methods, lambdas and nested functions, which a
    worker may not find, are not refused here.

    Args:
        registry: the ``Tasks`` that gets the task.
        options: of `Policy`.
    """
    policy = replace(AS_EVER, **options)
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
    """Do what `background` does, for any registry.

    Args:
        registry: the ``Tasks`` that gets the task.
        policy: the task's other options.
        anywhere: take also a function that a worker could not find by importing its module.

    Raises:
        InvalidTask: see `background`.
    """
    # The latter are no functions, and are refused as such: class methods, tasks of Django's own.
    if callable(name) or isinstance(name, classmethod | property) or hasattr(name, "func"):
        return declare(registry, policy=policy, anywhere=anywhere)(name)
    if not isinstance(name, str | None):
        raise InvalidOption(
            f"The name of a task is {name!r}. Give a text. A delay is @background(schedule=...)."
        )

    def decorate(function: Callable[..., Any]) -> Any:
        function = validation.as_function(function, str(name or ""), anywhere)
        task_name = name or f"{function.__module__}.{function.__name__}"
        if not anywhere:
            validation.check_function(task_name, function)
        validation.check_policy(task_name, policy, function)
        masking.check(task_name, policy.sensitive, function)
        validation.check_task_name(task_name)
        check_name(registry, task_name, function)
        proxy = registry._task_proxy_class(
            task_name,
            function,
            columns.as_schedule(schedule, task_name),
            _queue(queue, task_name, anywhere),
            remove_existing_tasks,
            registry._runner,
        )
        proxy.now = validation.callable_now(task_name, function)
        # This copies the name, the docstring and the signature. It does not copy the function's
        # __dict__, which could overwrite attributes of the proxy.
        functools.update_wrapper(proxy, function, updated=())
        if not anywhere:
            validation.keep_signature(proxy)
        registry._tasks[task_name] = proxy
        policies.declare(task_name, policy)
        return proxy

    return decorate


def _queue(queue: Any, task_name: str, anywhere: bool) -> Any:
    """The queue of a task's rows; a lazy translation stays one, which each call translates.

    Args:
        anywhere: whether upstream's decorator declares the task, which takes what is no text.

    Raises:
        InvalidOption: it is no text, or too long.
    """
    if queue is None:
        return None
    if not anywhere and not isinstance(queue, str | Promise):
        raise InvalidOption(f"queue of task {task_name} is {queue!r}: give its name, a text.")
    text = columns.as_text(queue, f"task {task_name}", "queue")
    return queue if isinstance(queue, Promise) else text


def adopt(proxy: Any) -> None:
    """Make whole a task that upstream's own ``Tasks.background`` has declared.

    A task that `declare` has declared stays as it is.

    Raises:
        GeneratorTask: its function is a generator function.
    """
    if policies.is_declared(proxy.name):
        return
    validation.check_runnable(proxy.name, proxy.task_function)
    proxy.now = validation.callable_now(proxy.name, proxy.task_function)
    functools.update_wrapper(proxy, proxy.task_function, updated=())
    policies.declare(proxy.name, AS_EVER)
