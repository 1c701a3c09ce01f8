"""Celery's words: ``from bgtasks.dialects.celery import shared_task``.

An option or a method of Celery that is not supported here raises an error that names it. Celery
itself need not be installed.
"""

from __future__ import annotations

import functools
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MethodType
from typing import Any, NoReturn

from asgiref.sync import sync_to_async
from background_task import tasks as upstream
from background_task.exceptions import InvalidTaskError
from django.utils import timezone

from bgtasks import calls, conf, results
from bgtasks.exceptions import (
    Cancel,
    InvalidOption,
    MaxRetriesExceededError,
    Retry,
    Snooze,
    UnknownAttribute,
    UnknownOption,
    seconds,
)
from bgtasks.models import Attempt, Outcome
from bgtasks.queue import attempts
from bgtasks.tasks import columns, decorator, validation
from bgtasks.tasks.current import CurrentTask, current_task
from bgtasks.tasks.policies import Policy

__all__ = ["AsyncResult", "MaxRetriesExceededError", "Retry", "Task", "shared_task"]

# Names of states: the first two are Celery's own, and PROGRESS is what its users name theirs.
RETRY, REVOKED, PROGRESS = "RETRY", "REVOKED", "PROGRESS"

# What to do instead of passing an option that is refused, for those where we know it.
HINTS = {
    "acks_late": "A row stays until its run has ended, for all tasks: leave it out.",
    "base": "A task is a function here.",
    "link": "Call the other task at the end of this one.",
    "link_error": "Receive bgtasks' signal task_failed.",
    "reject_on_worker_lost": "What a dead worker ran is run again, for all tasks: leave it out.",
    "soft_time_limit": "There is one limit: time_limit.",
    "task_id": "The id is that of the row.",
    "track_started": "STARTED is shown for all tasks: leave it out.",
}
SIGNATURES = "Signatures and what is made of them come in a later version."
MISSING = {
    **dict.fromkeys(("s", "si", "signature", "subtask", "chunks", "map", "starmap"), SIGNATURES),
    "apply": "Call the task itself: that runs it here.",
    "replace": SIGNATURES,
}


def refuse(
    where: str, options: Mapping[str, Any], supported: Callable[..., Any] | Iterable[str]
) -> None:
    """Refuse options that are not supported.

    Args:
        where: what the options were given to.
        options: those that are not supported, with their values.
        supported: the names of those that are, or the function that takes them by its parameters.

    Raises:
        UnknownOption: there are some.
    """
    if options:
        if callable(supported):
            parameters = inspect.signature(supported).parameters.values()
            supported = [
                each.name
                for each in parameters
                if each.default is not each.empty and each.kind is not each.POSITIONAL_ONLY
            ]
        hints = "".join(f" {HINTS[name]}" for name in options if name in HINTS)
        raise UnknownOption(
            f"{where}: {', '.join(options)} is not supported by bgtasks.dialects.celery.{hints}"
            f" Supported are: {', '.join(supported)}."
        )


class AsyncResult(results.AsyncResult):
    """The result of a call as Celery has it: its id is a text, and it knows more states than ours.

    Args:
        id: the id of the call's row, as a text or a number, or the row itself.

    Raises:
        UnknownResult: this cannot be the id of a task.
    """

    id: str  # type: ignore[assignment]

    def __init__(self, id: int | str | Any) -> None:  # noqa: A002
        super().__init__(id)
        self.id = str(self.id)

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def status(self) -> str:
        """PENDING, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED.

        PROGRESS is a run that has reported its progress. RETRY is a task that waits for another
        try.

        Raises:
            UnknownResult: there is no such task, or not any more. The properties below raise it
                too.
        """
        state = self._find()
        if state.outcome is None:
            if state.running:
                return results.STARTED if self.progress is None else PROGRESS
            return RETRY if state.attempts else results.PENDING
        if state.outcome == Outcome.State.CANCELLED:
            return REVOKED
        return results.SUCCESS if state.outcome == Outcome.State.SUCCEEDED else results.FAILURE

    @property
    def state(self) -> str:
        """The status, by Celery's other name for it."""
        return self.status

    @property
    def info(self) -> Any:
        """While the task runs, what it reported by `Task.update_state`; otherwise its `result`.

        A run that has reported nothing has an empty dict.
        """
        if self.status not in {results.STARTED, PROGRESS}:
            return self.result
        reported = self.progress
        if reported is None:
            return {}
        return {"current": reported.done, "total": reported.total, "status": reported.message}


@dataclass(slots=True)
class Request:
    """The call that runs.

    Attributes:
        id: the id of its row, and so of its result; None if the task was called directly.
        task: the name of the task.
        args: the positional arguments, without the task that `bind` puts before them.
        kwargs: the keyword arguments.
        retries: how often it failed before. Runs that were lost with their worker do not count.
        called_directly: whether it was called as a function. Then no worker runs it.
        asked: the retry that the task has asked for by `Task.retry`, whether or not the function
            lets that exception out.
    """

    id: str | None = None
    task: str = ""
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 0
    called_directly: bool = True
    asked: Retry | None = None
    most_retries: int | None = None


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """After which exceptions a task is tried again without asking for it, and how often.

    The attributes are the options of `shared_task` that have these names.
    """

    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = field(default_factory=dict)
    retry_backoff: bool | float = False
    retry_backoff_max: float | None = 600
    retry_jitter: bool = True

    def check(self, name: str) -> None:
        """Refuse options of the task of that name that make no sense.

        Raises:
            InvalidOption: a value has the wrong type, or is negative.
            UnknownOption: `retry_kwargs` has another key than ``max_retries`` and ``countdown``.
        """
        for types in (self.autoretry_for, self.dont_autoretry_for):
            if not isinstance(types, tuple) or not all(map(_is_exception, types)):
                raise InvalidOption(
                    f"autoretry_for or dont_autoretry_for of task {name} is {types!r}: give a "
                    "tuple of exception classes."
                )
        others = {k: v for k, v in self.retry_kwargs.items() if k not in _RETRY_KWARGS}
        refuse(f"retry_kwargs of task {name}", others, _RETRY_KWARGS)
        for option, value in {
            "retry_backoff": self.retry_backoff,
            "retry_backoff_max": self.retry_backoff_max,
            "countdown in retry_kwargs": self.retry_kwargs.get("countdown"),
        }.items():
            if value is not None and not (isinstance(value, int | float) and value >= 0):
                raise InvalidOption(
                    f"{option} of task {name} is {value!r}: give seconds, 0 or more."
                )

    def arguments(self, retries: int) -> dict[str, Any]:
        """The keyword arguments for `Task.retry` of a run that had so many retries before it."""
        given = dict(self.retry_kwargs)
        if self.retry_backoff:
            # The first delay is at least a second. 60 doublings are more than any delay may last;
            # a larger exponent would in the end overflow the float.
            delay = max(1.0, float(self.retry_backoff)) * 2.0 ** min(retries, 60)
            if self.retry_backoff_max is not None:
                delay = min(delay, self.retry_backoff_max)
            # A random delay keeps tasks that failed together from being tried again together.
            given["countdown"] = random.uniform(0, delay) if self.retry_jitter else delay  # noqa: S311
        return given


_RETRY_KWARGS = ("max_retries", "countdown")


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


class _CountedRetry(Retry):
    counted = True  # `Task.retry` has compared the retries with max_retries already


class _Types:
    """Classes that Celery has as attributes of each task, such as ``self.AsyncResult``."""

    AsyncResult = AsyncResult
    MaxRetriesExceededError = MaxRetriesExceededError


class _InCoroutines:
    """Enqueueing in a coroutine, for which Celery has no methods."""

    delay: Callable[..., AsyncResult]
    apply_async: Callable[..., AsyncResult]

    async def adelay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Do what `Task.delay` does."""
        return await sync_to_async(self.delay)(*args, **kwargs)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Do what `Task.apply_async` does."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)


class Task(_Types, _InCoroutines):
    """A task as Celery has it: calling it runs it here and now; ``delay`` enqueues a call.

    Attributes:
        name: the name by which rows refer to it.
        run: the function itself; with ``bind=True`` a method of this task.
        proxy: the task as the worker and the registry know it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        bind: bool,
        max_retries: int | None,
        default_retry_delay: float | None,
        expires: Any,
        retrying: Retrying,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self.run = MethodType(function, self) if bind else function
        self.max_retries = max_retries
        self.default_retry_delay = default_retry_delay
        self.expires = expires
        self.retrying = retrying
        self._first = (self,) if bind else ()
        self._is_coroutine = inspect.iscoroutinefunction(function)
        self._signature = inspect.signature(function)
        # Each task has its own variable, for while it runs it may call another task directly.
        self._request: ContextVar[Request | None] = ContextVar(function.__name__, default=None)

    def declare(self, name: str | None, queue: str | None, policy: Policy) -> None:
        """Put it into the registry, where workers find it.

        Raises:
            InvalidTask: this function cannot be a task, or an option makes no sense.
        """
        self.name = name or f"{self._function.__module__}.{self._function.__name__}"
        self._check()
        decorate = decorator.declare(upstream.tasks, self.name, queue=queue, policy=policy)
        self.proxy = decorate(self._for_workers())

    def _check(self) -> None:
        validation.check_function(self.name, self._function)
        self.retrying.check(self.name)
        spans = {"default_retry_delay": self.default_retry_delay}
        if not isinstance(self.expires, datetime):
            spans["expires"] = self.expires
        for option, span in spans.items():
            if span is not None:
                seconds(span, f"{option} of task {self.name}")
        for most in (self.max_retries, self.retrying.retry_kwargs.get("max_retries")):
            if most is not None:
                _check_retries(f"task {self.name}", most)
                if most < 0:
                    raise InvalidOption(
                        f"max_retries of task {self.name} is {most!r}: not 0 or more."
                    )
        try:
            self._signature.bind_partial(*self._first)
        except TypeError:
            raise InvalidOption(
                f"Task {self.name} has bind=True, and its function takes no first argument: "
                "write `def name(self, ...):`."
            ) from None

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name in MISSING:
            raise UnknownAttribute(f"{name}() of a task is not supported. {MISSING[name]}")
        raise AttributeError(f"A task of bgtasks.dialects.celery has no attribute {name!r}.")

    # --- enqueueing

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Enqueue a call with these arguments.

        Raises:
            NotJSON: an argument is not JSON.
            TypeError: the function does not take such arguments.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        time_limit: float | None = None,
        **others: Any,
    ) -> AsyncResult:
        """Enqueue a call.

        Args:
            args: the positional arguments, a list or a tuple.
            kwargs: the keyword arguments.
            countdown: seconds from now, before which it does not start.
            eta: the time before which it does not start, instead of `countdown`.
            expires: seconds from now or a time, after which it is revoked instead of started;
                None: as the task's decorator says.
            queue: the queue to put it into; None: as the task's decorator says.
            priority: of two rows that are due, the higher one runs first; None: as the task's
                decorator says.
            time_limit: seconds that each run of this call may take; None: as the task's decorator
                says.

        Raises:
            NotJSON: an argument is not JSON.
            TypeError: the function does not take such arguments.
            UnknownOption: an option of Celery's that is not supported.
        """
        refuse(f"apply_async() of {self.name}", others, Task.apply_async)
        if priority is not None:
            priority = columns.as_priority(f"priority of a call of {self.name}", priority)
        args, kwargs = validation.as_call(self.name, args or (), kwargs or {})
        try:
            self._signature.bind(*self._first, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        result = calls.apply_async(
            self.proxy,
            args,
            kwargs,
            countdown=_past_is_now(countdown),
            eta=eta,
            queue=queue,
            priority=None if priority is None else conf.as_stored(priority),
            expires=self.expires if expires is None else expires,
            timeout=time_limit,
        )
        return AsyncResult(result.id)

    # These need do nothing else: workers see a row only after its transaction has committed.
    delay_on_commit = delay
    apply_async_on_commit = apply_async

    # --- running

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it here and now. If it is a coroutine function, return the coroutine to await."""
        request = Request(task=self.name, args=args, kwargs=kwargs)
        return (self._await if self._is_coroutine else self._run)(request)

    def _run(self, request: Request) -> Any:
        with self._running(request):
            return self.run(*request.args, **request.kwargs)

    async def _await(self, request: Request) -> Any:
        with self._running(request):
            return await self.run(*request.args, **request.kwargs)

    def _for_workers(self) -> Callable[..., Any]:
        """The function that workers call, under the name of the task's own function."""

        @functools.wraps(self._function)
        def run(*args: Any, **kwargs: Any) -> Any:
            task = self._current()
            return self._run(self._requested(task, args, kwargs, _retries(task)))

        @functools.wraps(self._function)
        async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
            task = self._current()
            retries = await sync_to_async(_retries)(task) if task and task.attempt > 1 else 0
            return await self._await(self._requested(task, args, kwargs, retries))

        return run_coroutine if self._is_coroutine else run

    def _current(self) -> CurrentTask | None:
        """The current task if a worker runs a row of this task; else None.

        None means that this task was called as a function, perhaps by a task that has a row.
        """
        task = current_task()
        return task if task and task.name == self.name and task.id is not None else None

    def _requested(self, task: CurrentTask | None, args: Any, kwargs: Any, retries: int) -> Request:
        request = Request(task=self.name, args=args, kwargs=kwargs, retries=retries)
        if task is not None:
            request.id, request.called_directly = str(task.id), False
        return request

    @contextmanager
    def _running(self, request: Request) -> Iterator[None]:
        token = self._request.set(request)
        try:
            yield
        except (Retry, Snooze, Cancel, InvalidTaskError, *self.retrying.dont_autoretry_for):
            raise
        except self.retrying.autoretry_for as error:
            options = self.retrying.arguments(request.retries)
            if request.most_retries is not None:
                # What the task itself has said goes before its decorator: so the exception of a
                # `Task.retry` that had no tries left is final.
                options["max_retries"] = request.most_retries
            self.retry(exc=error, **options)
        finally:
            self._request.reset(token)
        if request.asked is not None:
            raise request.asked

    # --- for the task's function, where it is ``self``

    @property
    def request(self) -> Request:
        """The call that runs here."""
        return self._request.get() or Request(task=self.name)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **others: Any,
    ) -> Retry:
        """End this run and try again later.

        Args:
            args: None, or the arguments that this run has: a row keeps its arguments.
            kwargs: None, or the keyword arguments that this run has.
            exc: the exception that is the reason. It is raised if there are no tries left.
            throw: False returns the `Retry`. The task is tried again even if the function does
                not raise it.
            eta: the time of the next try.
            countdown: seconds until the next try, instead of `eta`; without either, it is the
                task's `default_retry_delay`.
            max_retries: how often it may be tried again, instead of what the task's decorator
                says. It holds for the retries that `autoretry_for` causes in this run, too.

        Returns:
            The `Retry`, if `throw` is False.

        Raises:
            Retry: always, unless `throw` is False. A direct call raises `exc` if there is one.
            MaxRetriesExceededError: it has had all its tries, and there is no `exc` to raise.
            UnknownOption: an option of Celery's that is not supported, or other arguments than
                this run's.
        """
        refuse(f"retry() of {self.name}", others, Task.retry)
        request = self.request
        self._refuse_other_arguments(request, args, kwargs)
        if max_retries is not None:
            _check_retries(f"retry() of {self.name}", max_retries)
            request.most_retries = max_retries
        if request.called_directly:
            raise exc or Retry()
        most = self.max_retries if max_retries is None else max_retries
        if most is not None and request.retries >= most:
            text = f"Task {self.name} (id {request.id}) was to be tried again {most} times at most."
            raise exc or MaxRetriesExceededError(text)
        retry = _CountedRetry(self._delay(eta, countdown))
        retry.__cause__ = exc or sys.exception()
        request.asked = retry  # so that it counts even if the task catches this exception
        if throw:
            raise retry
        return retry

    def _refuse_other_arguments(self, request: Request, args: Any, kwargs: Any) -> None:
        others = {}
        validation.as_call(self.name, args, kwargs)
        if args is not None and list(args) != list(request.args):
            others["other args"] = args
        if kwargs is not None and dict(kwargs) != dict(request.kwargs):
            others["other kwargs"] = kwargs
        refuse(f"retry() of {self.name}", others, Task.retry)

    def _delay(self, eta: datetime | None, countdown: float | timedelta | None) -> timedelta:
        where = f"retry() of {self.name}"
        columns.check_moment(eta, where, "eta")
        if eta is not None:
            delay: Any = (calls.aware(eta, where, "eta") or eta) - timezone.now()
        else:
            delay = self.default_retry_delay if countdown is None else countdown
        option = "countdown" if eta is None else "eta"
        return seconds(_past_is_now(0 if delay is None else delay), f"{option} of {where}")

    def update_state(
        self, *, state: str = PROGRESS, meta: Mapping[str, Any] | None = None, **others: Any
    ) -> None:
        """Report how far this run has come. In a task that was called directly it does nothing.

        Args:
            state: only "PROGRESS" is supported.
            meta: "current" (how much is done) and "total", numbers, and "status", a text. Each
                may be left out.

        Raises:
            UnknownOption: another state, another key, or an option that is not supported.
        """
        meta = meta or {}
        others |= {} if state == PROGRESS else {f"state {state}": state}
        others |= {f"meta {key!r}": meta[key] for key in meta if key not in _META}
        supported = [f"state {PROGRESS}", *(f"meta {key!r}" for key in _META)]
        refuse(f"update_state() of {self.name}", others, supported)
        if (task := self._current()) is not None and not self.request.called_directly:
            task.set_progress(meta.get("current", 0), meta.get("total"), meta.get("status", ""))


def _past_is_now(delay: Any) -> Any:
    """A delay as it is, or 0 if it is negative: as in Celery, a time that is past means now."""
    plain = delay.total_seconds() if isinstance(delay, timedelta) else delay
    return 0 if isinstance(plain, int | float) and plain < 0 else delay


def _check_retries(where: str, most: Any) -> None:
    """Refuse a ``max_retries`` that is no integer.

    Raises:
        InvalidOption: it is such a value.
    """
    if not isinstance(most, int):
        raise InvalidOption(f"max_retries of {where} is {most!r}: give a whole number.")


_META = ("current", "total", "status")


def _retries(task: CurrentTask | None) -> int:
    """How often a run of this row has failed. For a first attempt the database is not asked."""
    if task is None or task.attempt == 1:
        return 0
    return attempts.count(task.row.pk, task.attempt - 1, Attempt.State.FAILED)


def shared_task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    bind: bool = False,
    name: str | None = None,
    autoretry_for: tuple[type[BaseException], ...] = (),
    dont_autoretry_for: tuple[type[BaseException], ...] = (),
    retry_kwargs: Mapping[str, Any] | None = None,
    retry_backoff: bool | float = False,
    retry_backoff_max: float | None = 600,
    retry_jitter: bool = True,
    max_retries: int | None = 3,
    default_retry_delay: float | None = 180,
    ignore_result: bool = False,
    time_limit: float | None = None,
    expires: float | datetime | None = None,
    queue: str | None = None,
    priority: int = 0,
    atomic: bool = False,
    **others: Any,
) -> Any:
    """Turn a function into a task, as Celery's decorator does. It works with or without brackets.

    Args:
        function: the function, if the decorator is used without brackets.
        bind: whether the function's first argument is the `Task`.
        name: the name by which rows refer to it; by default ``module.function``.
        autoretry_for: exceptions after which it is tried again. Any other exception fails it.
        dont_autoretry_for: exceptions that fail it although `autoretry_for` has them.
        retry_kwargs: ``max_retries`` and ``countdown`` (seconds) of the retries that
            `autoretry_for` causes.
        retry_backoff: whether the delay of those retries doubles each time. True begins with one
            second; a number is the seconds to begin with.
        retry_backoff_max: the longest delay in seconds; None: no limit.
        retry_jitter: whether the delay is random, between 0 and what `retry_backoff` comes to.
        max_retries: how often it is tried again at most; None: for ever.
        default_retry_delay: seconds before the next try of a `Task.retry` that says neither `eta`
            nor `countdown`; None: 0.
        ignore_result: whether what it returns is dropped.
        time_limit: seconds that a run may take; None: as the settings say.
        expires: the default of its calls; see `Task.apply_async`.
        queue: the queue of its calls; None: the default one.
        priority: the default of its calls.
        atomic: whether what a run writes and its success are one transaction. Celery has no such
            option; it is that of `bgtasks.background`.

    Raises:
        InvalidTask: this function cannot be a task, or an option makes no sense.
        UnknownOption: an option of Celery's that is not supported.
    """
    refuse("@shared_task", others, shared_task)
    retrying = Retrying(
        autoretry_for=autoretry_for,
        dont_autoretry_for=dont_autoretry_for,
        retry_kwargs=retry_kwargs or {},
        retry_backoff=retry_backoff,
        retry_backoff_max=retry_backoff_max,
        retry_jitter=retry_jitter,
    )
    policy = Policy(
        max_attempts=1,  # the engine repeats nothing: `Task.retry` asks for retries and counts them
        timeout=time_limit,
        priority=conf.as_stored(columns.as_priority("priority of @shared_task", priority)),
        result="ignore" if ignore_result else "json",
        atomic=atomic,
    )

    def decorate(function: Callable[..., Any]) -> Task:
        function = validation.as_function(function)
        task = Task(
            function,
            bind=bind,
            max_retries=max_retries,
            default_retry_delay=default_retry_delay,
            expires=expires,
            retrying=retrying,
        )
        task.declare(name, queue, policy)
        return task

    return decorate if function is None else decorate(function)
