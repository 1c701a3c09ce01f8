"""Calling a task: the arguments and options of one call become a row.

Every way of enqueueing ends here. The dialects call `submit`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import background_task
from asgiref.sync import sync_to_async
from background_task import signals
from background_task import tasks as upstream
from background_task.models import Task
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, transaction
from django.utils import timezone

from bgtasks import conf
from bgtasks.exceptions import EnqueuedInCoroutine, InvalidOption, NoTable, NotJSON, seconds
from bgtasks.operations import nobody
from bgtasks.queue import creators, database, enqueue, unique
from bgtasks.results import AsyncResult
from bgtasks.running import tracing
from bgtasks.running.eager import run_eagerly
from bgtasks.tasks import columns, current, policies, validation

# These keyword arguments of a call are options, and so is `schedule`; the others are the function's
# own.
CALL_OPTIONS = (
    "priority",
    "queue",
    "verbose_name",
    "creator",
    "repeat",
    "repeat_until",
    "remove_existing_tasks",
)


def call(proxy: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Enqueue a call of a task. This takes the place of upstream's ``TaskProxy.__call__``.

    Returns:
        The row. With CHECK_EXISTING, RESCHEDULE_EXISTING or ``unique`` it is the row that was
        there already, if there was one.

    Raises:
        NotJSON: an argument cannot be written as JSON.
        WrongArguments: the function does not take these arguments.
        InvalidOption: an option makes no sense.
    """
    run_at, action, options = _call_options(proxy, kwargs)
    return _schedule(proxy, args, kwargs, run_at, action, options)


def submit(
    proxy: Any,
    args: Sequence[Any] | None = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    run_at: datetime | None = None,
    options: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Enqueue a call whose options stand apart from its arguments. Every dialect calls this.

    Args:
        args: the positional arguments, a list or a tuple.
        kwargs: the keyword arguments.
        run_at: do not start before then; None: what the task's own schedule says.
        options: options that the task's table has no column for: ``timeout`` (seconds),
            ``expires`` (seconds since the epoch), ``then`` (the name of a task that is enqueued
            with the row's id when this one has ended).
        given: options with a column, as in a call: ``priority``, ``queue``, ``verbose_name``,
            ``creator``. None is as if the option was not given.

    Returns:
        The row; of a ``unique`` task the one that was there already, if there was one.

    Raises:
        NotJSON: an argument cannot be written as JSON.
        WrongArguments: the function does not take these arguments.
        InvalidOption: an option makes no sense.
    """
    args, kwargs = validation.as_call(proxy.name, args, kwargs)
    given = {name: value for name, value in given.items() if value is not None}
    if run_at is not None:
        given["schedule"] = run_at
    columns.check_own_options(proxy.name, given)
    own_run_at, action, own = _call_options(proxy, given)
    if (timeout := (options or {}).get("timeout")) is not None:
        validation.check_timeout(proxy.name, timeout)
    return _schedule(proxy, args, kwargs, own_run_at, action, own, options)


def delay(proxy: Any, *args: Any, **kwargs: Any) -> AsyncResult:
    """Enqueue a call. All arguments are the function's own; none is an option.

    Raises:
        NotJSON: an argument cannot be written as JSON.
        WrongArguments: the function does not take these arguments.
    """
    return AsyncResult(submit(proxy, args, kwargs).pk)


def apply_async(
    proxy: Any,
    args: Sequence[Any] | None = (),
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
        args: the positional arguments of the function, a list or a tuple.
        kwargs: its keyword arguments.
        countdown: seconds, or a timedelta, from now: the task does not start earlier.
        eta: the time before which it does not start, instead of ``countdown``.
        queue: the queue of the row; None: the task's own.
        priority: the priority of the row; None: the task's own.
        expires: a time, or seconds or a timedelta from now. After that the task is not started any
            more, but cancelled.
        timeout: seconds that a run may take; None: what the task says.
        creator: the object that enqueues the call, any model instance.
        verbose_name: a name of the row for people; cut to 255 characters.

    Raises:
        NotJSON: an argument cannot be written as JSON.
        WrongArguments: the function does not take these arguments.
        InvalidOption: an option makes no sense, or ``countdown`` and ``eta`` are both given.
    """
    options = {"expires": _epoch(proxy, expires), "timeout": timeout}
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


async def adelay(proxy: Any, *args: Any, **kwargs: Any) -> AsyncResult:
    """Do what `delay` does, in a coroutine."""
    return await sync_to_async(delay)(proxy, *args, **kwargs)


async def aapply_async(
    proxy: Any,
    args: Sequence[Any] | None = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncResult:
    """Do what `apply_async` does, in a coroutine."""
    return await sync_to_async(apply_async)(proxy, args, kwargs, **options)


def call_each(proxy: Any, *iterables: Iterable[Any], **kwargs: Any) -> list[Task]:
    """Enqueue many calls at once: ``task.map(a, b)`` is ``task(x, y)`` for each x of a and y of b.

    All calls are enqueued in one transaction, so that all rows exist or none. A few statements
    insert them all, unless a receiver of pre_save or post_save is connected. The calls of a
    ``unique`` task are enqueued one by one, because each needs its key.

    Args:
        iterables: the positional arguments: an iterable for each, all of the same length. A text
            or a mapping is none.
        kwargs: as in a call: its options, and keyword arguments that are the same for all.

    Returns:
        The rows, in the order of the items.

    Raises:
        NotJSON: an argument cannot be written as JSON.
        WrongArguments: the function does not take these arguments.
        InvalidOption: an option makes no sense.
        ValueError: the iterables differ in length, or an option asks for the rows that wait for
            the same call.
    """
    iterables = tuple(validation.as_iterables(proxy.name, iterables))
    run_at, action, options = _call_options(proxy, kwargs)
    if action != upstream.TaskSchedule.SCHEDULE or options.pop("remove_existing_tasks"):
        raise ValueError(
            f"{proxy.name}.map() does not look for rows that wait for the same call. To check, "
            "reschedule or replace those, call the task once for each item."
        )
    calls = list(zip(*iterables, strict=True))
    for args in calls[:1]:  # one check will do: all calls have the same number of arguments
        validation.check_arguments(proxy, args, kwargs)
    if policies.of(proxy.name).unique is not False:
        with transaction.atomic(using=database.alias()):
            return [_schedule(proxy, args, kwargs, run_at, action, options) for args in calls]
    params = [enqueue.parameters(proxy.name, args, kwargs) for args in calls]
    options["repeat"] = columns.repeat_seconds(proxy.name, options.get("repeat"))
    like = Task(task_name=proxy.name, run_at=run_at, **options)
    with _explained(proxy.name), tracing.enqueueing(proxy.name, like.queue) as span:
        rows = enqueue.insert_many(like, params, span.with_trace(None))
        span.enqueued(rows)
        current.note_children(rows)
    for row in rows if signals.task_created.receivers else ():
        signals.task_created.send(sender=proxy.runner.__class__, task=row)
    nobody.warn_on_commit(proxy.name)
    _run_if_eager(*rows)
    return rows


def _start(
    proxy: Any, countdown: float | timedelta | None, eta: datetime | None
) -> datetime | None:
    where = f"a call of {proxy.name}"
    columns.check_moment(eta, where, "eta")
    if countdown is None:
        return eta and aware(eta, where, "eta")
    if eta is not None:
        raise InvalidOption(f"countdown and eta of {where}: give one of them.")
    return timezone.now() + seconds(countdown, f"countdown of {where}")


def _epoch(proxy: Any, moment: float | timedelta | datetime | None) -> float | None:
    if moment is None:
        return None
    where = f"a call of {proxy.name}"
    if not isinstance(moment, datetime):
        span = seconds(moment, f"expires of {where}")
        return timezone.now().timestamp() + span.total_seconds()
    try:
        return (aware(moment, where, "expires") or moment).timestamp()
    except (OverflowError, ValueError):  # a naive time, as USE_TZ is off
        raise InvalidOption(f"expires of {where} is {moment}: beyond the calendar.") from None


def _schedule(
    proxy: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    run_at: datetime | None,
    action: int,
    given: dict[str, Any],
    options: Mapping[str, Any] | None = None,
) -> Any:
    validation.check_arguments(proxy, args, kwargs)
    more: dict[str, Any] = {}
    if (key := _unique_key(proxy, args, kwargs)) is not None:
        _refuse_looking_for_existing(proxy, action, given)
        more["unique_key"] = key
    with _explained(proxy.name), tracing.enqueueing(proxy.name, given.get("queue")) as span:
        # Arguments are passed only if they are used: a project's own runner may not take them.
        if options := span.with_trace(options):
            more["options"] = options
        row = _schedule_of(proxy.runner)(
            proxy.name, args, kwargs, run_at=run_at, action=action, **given, **more
        )
        span.enqueued([row])
    nobody.warn_on_commit(proxy.name)
    _run_if_eager(row)
    return row


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say what to do if a call of the task with this name cannot be enqueued here.

    Raises:
        NoTable: the database is not migrated.
        EnqueuedInCoroutine: an event loop runs in this thread.
    """
    try:
        yield
    except DatabaseError as error:
        _explain_not_migrated(name, error)
        raise
    except SynchronousOnlyOperation as error:
        short = name.rpartition(".")[2]
        raise EnqueuedInCoroutine(
            f"{name} is called in a coroutine, an async view for example: to enqueue is a "
            "statement on the database, which would block the event loop. Write "
            f"`await {short}.adelay(...)`, with options `await {short}.aapply_async([...], ...)`, "
            f"of Django's own @task `await {short}.aenqueue(...)`; or, whatever the call is, "
            f"`await sync_to_async({short})(...)`, from asgiref.sync."
        ) from error


def _explain_not_migrated(name: str, error: DatabaseError) -> None:
    """Say what to do if a call could not be enqueued because the database is not migrated.

    Raises:
        NoTable: that was the reason.
    """
    if not database.is_not_migrated(error):
        return
    reason = str(error).partition("\n")[0]
    raise NoTable(
        f"{name} is called, and the database lacks a table or a column ({reason}). Run `manage.py "
        "migrate`. If the ready() of an app calls it, that runs before every command, `migrate` "
        'too: declare the task with @background(cron="...") instead, and no call is needed, or '
        "call it in a receiver of the signal post_migrate."
    ) from error


def _schedule_of(runner: Any) -> Callable[..., Any]:
    """The function that enqueues for a runner: ours, unless the runner's class has its own."""
    if type(runner).schedule is upstream.DBTaskRunner.schedule:
        return partial(schedule_row, runner)
    return runner.schedule  # type: ignore[no-any-return]


def schedule_row(
    runner: Any,
    task_name: str,
    args: Any,
    kwargs: Mapping[str, Any],
    run_at: datetime | None = None,
    priority: int = 0,
    action: int = upstream.TaskSchedule.SCHEDULE,
    queue: str | None = None,
    verbose_name: str | None = None,
    creator: Any = None,
    repeat: int | None = None,
    repeat_until: datetime | None = None,
    remove_existing_tasks: bool = False,
    unique_key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Task:
    """Enqueue a call whose options were taken out of its arguments.

    Args:
        runner: its class is the sender of the signal ``task_created``.
        unique_key: the key of a call of a ``unique`` task; None: the task is not unique.
        options: see `submit`.

    Returns:
        The row that waits now: the new one, or one that waited already.
    """
    row = enqueue.new_row(
        task_name, args, kwargs, run_at, priority, queue, verbose_name, creator, repeat,
        repeat_until,
    )  # fmt: skip
    new = True
    if unique_key is not None:
        row, new = enqueue.insert_unique(row, unique_key, options)
    elif remove_existing_tasks:
        enqueue.replace(row, options)
    elif action == upstream.TaskSchedule.SCHEDULE:
        enqueue.insert(row, options)
    else:
        again = action == upstream.TaskSchedule.RESCHEDULE_EXISTING
        row, new = enqueue.insert_unless_waiting(row, again, options)
    if new:
        current.note_children([row])
        signals.task_created.send(sender=runner.__class__, task=row)
    return row


def _run_if_eager(*rows: Any) -> None:
    if conf.eager():
        for row in rows:
            run_eagerly(row)


def _refuse_looking_for_existing(proxy: Any, action: int, given: dict[str, Any]) -> None:
    if action != upstream.TaskSchedule.SCHEDULE or given.get("remove_existing_tasks"):
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
        if chosen is True:  # the key is the arguments themselves: the error should name the one
            enqueue.parameters(proxy.name, args, kwargs)
        # It is made of the arguments. So it is not quoted if there are sensitive ones among them.
        shown = f"a {type(value).__name__}" if policies.of(proxy.name).sensitive else repr(value)
        raise NotJSON(
            f"The unique key of {proxy.name} is {shown}, which is not JSON: {error}"
        ) from error


def _call_options(
    proxy: Any, kwargs: dict[str, Any]
) -> tuple[datetime | None, int, dict[str, Any]]:
    """Take the options out of a call's keyword arguments.

    Returns:
        The time to run at, the action of the schedule, and the other options.
    """
    name, schedule = proxy.name, proxy.schedule
    if (given := kwargs.pop("schedule", None)) is not None:
        schedule = columns.as_schedule(given, name).merge(schedule)
    options = {name: kwargs.pop(name) for name in CALL_OPTIONS if name in kwargs}
    if options:
        columns.check_options(name, options)
        creators.check(options.get("creator"), f"a call of {name}")
    if options.get("priority") is None:
        own = policies.of(name).priority if schedule._priority is None else schedule.priority
        options["priority"] = own
    options.setdefault("queue", proxy.queue)
    options.setdefault("remove_existing_tasks", proxy.remove_existing_tasks)
    run_at = aware(schedule.run_at, name, "schedule")
    options["repeat_until"] = aware(options.get("repeat_until"), name, "repeat_until")
    return run_at, schedule.action, options


def aware(value: datetime | None, name: str, option: str) -> datetime | None:
    """The time as an aware one, if USE_TZ is on. A naive one is taken as local, with a warning.

    With USE_TZ off, an aware time becomes the naive local one, as the database takes no other.

    Args:
        name: the task's name, for the warning.
        option: the option's name, for the warning.

    Raises:
        InvalidOption: it is so near to the end of the calendar that other time zones cannot show
            it.
    """
    if value is None:
        return None
    if settings.USE_TZ and timezone.is_naive(value):
        warnings.warn(
            f"{option} of task {name} is {value}, without a time zone, while USE_TZ is on. It is "
            f"taken as {timezone.get_current_timezone_name()}; use django.utils.timezone.now().",
            RuntimeWarning,
            stacklevel=_level_of_caller(),
        )
        value = timezone.make_aware(value)
    columns.check_in_calendar(value, f"{option} of {name}")
    return value if settings.USE_TZ or timezone.is_naive(value) else timezone.make_naive(value)


# Folders whose code stands between a project's call and what it comes to.
_BETWEEN = tuple(str(Path(module).parent) for module in (__file__, background_task.__file__))


def _level_of_caller() -> int:
    """The ``stacklevel`` of a warning of this function's caller, for the line of the project.

    How many calls are in between depends on how the task was called.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    return level
