"""The runs of Django's own tasks: what the worker calls, and what is read of them afterwards."""

from __future__ import annotations

import asyncio
import builtins
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from inspect import Signature, iscoroutinefunction, signature
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from background_task import tasks as upstream
from django.db import connections
from django.utils import timezone

from bgtasks import conf, signals
from bgtasks.dialects.django_tasks.framework import (
    InvalidTask,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from bgtasks.exceptions import Cancel, ResultNotJSON, Snooze, TaskFailed, TaskRevoked, TaskTimeout
from bgtasks.models import Attempt, CompletedTask, Outcome, Task
from bgtasks.queue import database as db
from bgtasks.queue import outcomes, receivers
from bgtasks.running import executor
from bgtasks.serialize import codec, remote_errors
from bgtasks.tasks import decorator, policies, registry, validation
from bgtasks.tasks.current import current_task
from bgtasks.tasks.policies import Policy

if TYPE_CHECKING:
    from bgtasks.dialects.django_tasks.backend import DatabaseTask

# What stands for an attempt that ended without an exception of the task's own.
NO_EXCEPTION = {
    Attempt.State.LOST: TaskFailed,
    Attempt.State.STOPPED: TaskFailed,
    Attempt.State.TIMED_OUT: TaskTimeout,
}
# Rows of which this process has said that they failed, and has not recorded it yet.
_told: set[int] = set()


class RunError(TaskError):
    """Why a run did not succeed. Its class is looked for among those that are imported here."""

    __slots__ = ()

    @property
    def exception_class(self) -> type[BaseException]:
        return remote_errors.imported(self.exception_class_path) or TaskFailed


# --- declaring


def register(task: DatabaseTask, policy: Policy) -> Any:
    """Put a task into the registry; returns its proxy. A copy made by `using()` is there already.

    Raises:
        InvalidTask: another one is there. `bgtasks.exceptions.InvalidTask`: it cannot be one.
    """
    name = task.module_path
    proxy = upstream.tasks._tasks.get(name)
    known = getattr(proxy, "django_task", None)
    if known is not None and known.func is task.func:
        if known.own_options != task.own_options:
            raise InvalidTask(
                f"{name} is a task already, with other options. Rows carry only its name: write a "
                "second function that calls the first."
            )
        _refuse_other_policy(known, task, policy)
        return proxy
    validation.check_runnable(name, task.func)
    function = _coroutine(task) if iscoroutinefunction(task.func) else _plain(task)
    function.__signature__ = _signature(task)  # type: ignore[attr-defined]
    proxy = decorator.declare(upstream.tasks, name, queue=task.queue_name, policy=policy)(function)
    proxy.django_task = task
    signals.task_failed.connect(_tell_of_failure, dispatch_uid=f"{__name__}.failed")
    return proxy


def _refuse_other_policy(known: DatabaseTask, task: DatabaseTask, policy: Policy) -> None:
    """A copy of a task, made by `using()`, cannot be run by the options of another backend.

    Raises:
        InvalidTask
    """
    if known.backend == task.backend:
        return
    if replace(policies.of(task.module_path), priority=policy.priority) != policy:
        raise InvalidTask(
            f"{task.module_path} belongs to the backend {known.backend!r}, and OPTIONS of "
            f"{task.backend!r} says otherwise how it is run. Rows carry only its name: declare it "
            f'with @task(backend="{task.backend}"), or write a second function that calls it.'
        )


def declared(name: str) -> DatabaseTask | None:
    """The task that rows of that name are for; None if this process knows no `@task` of it."""
    return getattr(upstream.tasks._tasks.get(name), "django_task", None)


def _signature(task: DatabaseTask) -> Signature:
    """The function's, as a call has to meet it."""
    whole = signature(task.func)
    given = list(whole.parameters.values())[task.takes_context :]
    return whole.replace(parameters=given)


# --- running


def _plain(task: DatabaseTask) -> Callable[..., Any]:
    @functools.wraps(task.func)
    def run(*args: Any, **kwargs: Any) -> Any:
        this = begin(task, args, kwargs)
        try:
            value = this.checked(task.func(*this.args, **kwargs))
        except BaseException as error:
            this.failed(error)
            raise
        this.succeeded(value)
        return value

    return run


def _coroutine(task: DatabaseTask) -> Callable[..., Any]:
    @functools.wraps(task.func)
    async def run(*args: Any, **kwargs: Any) -> Any:
        this = await sync_to_async(begin)(task, args, kwargs)
        try:
            value = this.checked(await task.func(*this.args, **kwargs))
        except asyncio.CancelledError:
            raise  # out of time, or stopped with its worker, and that is not over yet
        except BaseException as error:
            await sync_to_async(this.failed)(error)
            raise
        await sync_to_async(this.succeeded)(value)
        return value

    return run


def begin(task: DatabaseTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Run:
    """Tell of a run that starts now."""
    run = Run(task, args, kwargs)
    run.send(task_started)
    return run


class RunningResult(TaskResult):
    """The result of the run that is under way.

    A claim fetches no date, so that this one is fetched when somebody asks for it.
    """

    __slots__ = ("_row",)

    def __getattr__(self, name: str) -> Any:
        if name != "enqueued_at":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        try:
            enqueued_at = self._row.repeat_until
        except Task.DoesNotExist:  # called off meanwhile
            enqueued_at = None
        object.__setattr__(self, name, enqueued_at)
        return enqueued_at


class Run:
    """A run of a task in a worker, with the signals of its start and its end.

    Coroutines share a connection: whose an open transaction is nobody knows.

    Attributes:
        args: what the function is called with.
    """

    def __init__(self, task: DatabaseTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        current = current_task()
        if current is None:
            raise RuntimeError(f"Workers run {task.module_path}. Here, use its call() or acall().")
        self._row = current.row
        self._sender = type(task.get_backend())
        self._shares = iscoroutinefunction(task.func)
        self._busy = _open_transactions()
        self._result = _running(task, self._row, current.started_at, args, kwargs)
        self.args = args
        if task.takes_context:
            self.args = (TaskContext(task_result=self._result), *args)
            if self._shares:
                _ = self._result.enqueued_at  # in the event loop it could not be fetched

    def checked(self, value: Any) -> Any:
        """What is kept of the function's return value.

        Raises:
            ResultNotJSON: it cannot be kept.
        """
        if policies.of(self._row.task_name).result == "ignore":
            return None
        try:
            value = normalize_json(value)
            codec.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise ResultNotJSON(
                f"Task {self._row.task_name} (id {self._row.pk}) returned what is not JSON "
                f"({error}). Return text, numbers, lists or dicts, of a model instance the primary "
                "key, or nothing."
            ) from None
        return value

    def succeeded(self, value: Any) -> None:
        if not self._shares and _open_transactions() - self._busy:
            return  # the executor is about to find that too, and fails the run
        self._end(TaskResultStatus.SUCCESSFUL, _return_value=value)
        self.send(task_finished)

    def failed(self, error: BaseException) -> None:
        """Tell of a failure, if it is the end. Call it while the exception is handled.

        Of a task that cancels itself whoever records that tells.
        """
        if isinstance(error, Cancel | Snooze):
            return
        if executor.delay_after(self._row, error) is not None:
            return
        _told.add(self._row.pk)
        self._result.errors.append(
            RunError(
                exception_class_path=_path(type(error)),
                traceback="".join(format_exception(error)),
            )
        )
        self._end(TaskResultStatus.FAILED)
        self.send(task_finished)

    def _end(self, status: TaskResultStatus, **values: Any) -> None:
        for name, value in {"status": status, "finished_at": timezone.now(), **values}.items():
            object.__setattr__(self._result, name, value)

    def send(self, signal: Any) -> None:
        receivers.send(signal, self._sender, task_result=self._result)


def _running(
    task: DatabaseTask,
    row: Task,
    started_at: datetime,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> RunningResult:
    before = _attempts(row.pk, row.attempts - 1)
    result = RunningResult(
        task=_as_enqueued(task, row, task.backend),
        id=str(row.pk or ""),
        status=TaskResultStatus.RUNNING,
        enqueued_at=None,
        started_at=_started(before[0]) if before else started_at,
        last_attempted_at=started_at,
        finished_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=task.backend,
        errors=_errors(before),
        worker_ids=[*(attempt.claim for attempt in before), row.locked_by or ""],
    )
    object.__setattr__(result, "_row", row)
    object.__delattr__(result, "enqueued_at")
    return result


def _open_transactions() -> set[str]:
    return {
        connection.alias
        for connection in connections.all(initialized_only=True)
        if connection.connection is not None
        and (connection.in_atomic_block or not connection.autocommit)
    }


def _tell_of_failure(task_id: int, completed_task: CompletedTask, **kwargs: Any) -> None:
    """Receives `task_failed`: a row ended that was killed, called off, or never started."""
    task = declared(completed_task.task_name)
    if task is None:
        return
    if task_id in _told:
        _told.discard(task_id)
    elif result := read(task_id, task.backend):
        receivers.send(task_finished, type(task.get_backend()), task_result=result)


# --- reading


def read(task_id: int, backend: str) -> TaskResult | None:
    """Where a task stands; None if it never was, is none of Django's, was deleted or pruned."""
    # In this order: a task that ends in between has left the queue, and has an outcome.
    return _ended(task_id, backend) or _queued(task_id, backend) or _ended(task_id, backend)


def _queued(task_id: int, backend: str) -> TaskResult | None:
    row = Task.objects.using(db.alias()).filter(pk=task_id, failed_at=None).first()
    task = row and _task_of(row)
    if task is None:
        return None
    before = _attempts(task_id, row.attempts)
    latest = _started(before[-1]) if before else None
    if row.locked_by:
        # The row does not say when its run began: then, or somewhat later.
        latest = max([row.run_at, *(attempt.ended_at for attempt in before)])
    return _result(
        row,
        task,
        before,
        id=str(task_id),
        status=TaskResultStatus.RUNNING if row.locked_by else TaskResultStatus.READY,
        started_at=_started(before[0]) if before else latest,
        last_attempted_at=latest,
        finished_at=None,
        backend=backend,
    )


def _ended(task_id: int, backend: str) -> TaskResult | None:
    outcome = outcomes.outcome_of(task_id)
    if outcome is None:
        return None
    row = CompletedTask.objects.using(db.alias()).filter(pk=outcome.completed_id).first()
    task = row and _task_of(row)
    if task is None:
        return None
    before = _attempts(task_id, row.attempts)
    succeeded = outcome.state == Outcome.State.SUCCEEDED
    result = _result(
        row,
        task,
        before,
        id=str(task_id),
        status=TaskResultStatus.SUCCESSFUL if succeeded else TaskResultStatus.FAILED,
        started_at=_started(before[0]) if before else outcome.started_at,
        last_attempted_at=outcome.started_at or (_started(before[-1]) if before else None),
        finished_at=outcome.finished_at,
        backend=backend,
    )
    if succeeded and outcome.result is not None:
        object.__setattr__(result, "_return_value", codec.loads(outcome.result))
    if not succeeded:
        _explain(result, outcome, row.last_error)
    return result


def _explain(result: TaskResult, outcome: Outcome, story: str) -> None:
    """See to it that what has failed says why."""
    if outcome.exception and result.errors:
        path, told = json.loads(outcome.exception)["type"], result.errors.pop().traceback
        result.errors.append(RunError(exception_class_path=path, traceback=told))
    if outcome.state == Outcome.State.CANCELLED:
        error = RunError(exception_class_path=_path(TaskRevoked), traceback=story)
        result.errors.append(error)


def _result(
    row: Task | CompletedTask, task: DatabaseTask, before: Sequence[Attempt], **values: Any
) -> TaskResult:
    args, kwargs = _arguments(row)
    worker_ids = [attempt.claim for attempt in before]
    if row.locked_by and len(worker_ids) < row.attempts:
        worker_ids.append(row.locked_by)  # of the run under way, or the one that succeeded
    return TaskResult(
        task=_as_enqueued(task, row, values["backend"], _run_after(row)),
        enqueued_at=row.repeat_until,
        args=args,
        kwargs=kwargs,
        errors=_errors(before),
        worker_ids=worker_ids,
        **values,
    )


def _arguments(row: Task | CompletedTask) -> tuple[list[Any], dict[str, Any]]:
    """What the row was enqueued with; nothing of one that cannot be read, and failed for that."""
    try:
        args, kwargs = codec.loads(row.task_params)
        return list(args), dict(kwargs)
    except (ValueError, TypeError, RecursionError):
        return [], {}


def _task_of(row: Task | CompletedTask) -> DatabaseTask | None:
    if row.task_name not in upstream.tasks._tasks:
        # As the worker does, so that a process which enqueues nothing can read results too. What
        # a row names is never imported.
        for _ in registry.import_task_modules():
            pass  # the worker tells of these
    return declared(row.task_name)


def _as_enqueued(
    task: DatabaseTask,
    row: Task | CompletedTask,
    backend: str,
    run_after: datetime | None = None,
) -> DatabaseTask:
    """The task as it was when the row was enqueued. Not `using()`: queues may have gone since."""
    values = {each.name: getattr(task, each.name) for each in fields(task)}
    values |= {"priority": conf.as_stored(row.priority), "backend": backend, "run_after": run_after}
    values["queue_name"] = row.queue or task.queue_name
    copy = object.__new__(type(task))
    for name, value in values.items():
        object.__setattr__(copy, name, value)
    return copy


def _run_after(row: Task | CompletedTask) -> datetime | None:
    """When it may start; not of one that was tried: then the column says something else."""
    if isinstance(row, CompletedTask) or row.attempts or row.repeat_until is None:
        return None
    return row.run_at if row.run_at > row.repeat_until else None


def _attempts(task_id: int, most: int) -> list[Attempt]:
    """The runs that did not succeed, the first first."""
    if most < 1:
        return []
    rows = Attempt.objects.using(db.alias()).filter(task_id=task_id, number__lte=most)
    return list(rows.order_by("number", "pk"))


def _started(attempt: Attempt) -> datetime:
    """When a run began; of one that was lost with its worker, when that was noticed."""
    return attempt.started_at or attempt.ended_at


def _errors(attempts: Sequence[Attempt]) -> list[TaskError]:
    return [
        RunError(exception_class_path=_path_of(attempt), traceback=attempt.error)
        for attempt in attempts
    ]


def _path_of(attempt: Attempt) -> str:
    """The path of the class that an attempt raised."""
    state = Attempt.State(attempt.state)
    if state in NO_EXCEPTION:
        return _path(NO_EXCEPTION[state])
    return raised(attempt.error) or _path(TaskFailed)


def _path(class_: type[BaseException]) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


# In a traceback the exception is the first line that is not indented, after the frames.
_RAISED = re.compile(r"([\w.<>]+)(?::|$)")


def raised(told: str) -> str | None:
    """The path of the exception's class, from what Python prints of it."""
    path, frames = None, True
    for line in told.splitlines():
        if line.startswith((" ", "Traceback (")):
            frames = True
        elif frames and line:
            found = _RAISED.match(line)
            path, frames = (found[1] if found else path), False
    if path is None or "." in path:
        return path
    return f"builtins.{path}" if hasattr(builtins, path) else f"__main__.{path}"
