"""The runs of Django's own tasks: the functions that workers call, and the results of those."""

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
from bgtasks.exceptions import (
    BrokenRow,
    Cancel,
    ResultNotJSON,
    Snooze,
    TaskFailed,
    TaskRevoked,
    TaskTimeout,
)
from bgtasks.models import Attempt, CompletedTask, Outcome, Task
from bgtasks.queue import attempts, outcomes, receivers
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import arguments_of
from bgtasks.queue.deliveries import is_running
from bgtasks.running import executor
from bgtasks.serialize import codec, remote_errors, tracebacks
from bgtasks.tasks import decorator, policies, registry, validation
from bgtasks.tasks.current import current_task
from bgtasks.tasks.policies import Policy

if TYPE_CHECKING:
    from bgtasks.dialects.django_tasks.backend import DatabaseTask

# The exception that a result shows for an attempt in which the task itself raised nothing.
NO_EXCEPTION = {
    Attempt.State.LOST: TaskFailed,
    Attempt.State.STOPPED: TaskFailed,
    Attempt.State.TIMED_OUT: TaskTimeout,
}
# Ids of rows for which this process has sent `task_finished` after a failure that is not recorded
# yet. When it is recorded, `task_failed` is sent, and must not send `task_finished` again.
_finished_sent: set[int] = set()


class RunError(TaskError):
    """Why a run did not succeed. Its class is found only if its module is imported already."""

    __slots__ = ()

    @property
    def exception_class(self) -> type[BaseException]:
        return remote_errors.imported(self.exception_class_path) or TaskFailed


# --- declaring


def register(task: DatabaseTask, policy: Policy) -> Any:
    """Put a task into the registry. A copy of it that `using()` has made is there already.

    Returns:
        The registry's entry for it.

    Raises:
        InvalidTask: Django's own: the registry has another task of this name.
        bgtasks.exceptions.InvalidTask: this function cannot be a task, or an option makes no
            sense.
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
    signals.task_failed.connect(_send_finished, dispatch_uid=f"{__name__}.failed")
    return proxy


def _refuse_other_policy(known: DatabaseTask, task: DatabaseTask, policy: Policy) -> None:
    """Refuse a copy, made by `using()`, for a backend whose options give the task another policy.

    Rows carry only the task's name, so workers run all of them by the policy of the first backend.

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
    """The `@task` of that name; None if this process knows none."""
    return getattr(upstream.tasks._tasks.get(name), "django_task", None)


def _signature(task: DatabaseTask) -> Signature:
    """The signature that the arguments of a call have to fit: without the context."""
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
            # It ran out of time, or its worker stops. The executor decides what comes of that.
            raise
        except BaseException as error:
            await sync_to_async(this.failed)(error)
            raise
        await sync_to_async(this.succeeded)(value)
        return value

    return run


def begin(task: DatabaseTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Run:
    """Begin a run of a task in this worker, and send `task_started`."""
    run = Run(task, args, kwargs)
    run.send(task_started)
    return run


class RunningResult(TaskResult):
    """The result of the run that is under way.

    `enqueued_at` is fetched from the database when it is first read: claims fetch no dates, and
    most tasks do not read it.
    """

    __slots__ = ("_row",)

    def __getattr__(self, name: str) -> Any:
        if name != "enqueued_at":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        try:
            enqueued_at = self._row.repeat_until
        except Task.DoesNotExist:  # it was revoked while it ran
            enqueued_at = None
        object.__setattr__(self, name, enqueued_at)
        return enqueued_at


class Run:
    """A run of a task in a worker, with the signals of its start and its end.

    Attributes:
        args: the positional arguments that the function is called with, the context included.
    """

    def __init__(self, task: DatabaseTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        current = current_task()
        if current is None:
            raise RuntimeError(f"Workers run {task.module_path}. Here, use its call() or acall().")
        self._row = current.row
        self._sender = type(task.get_backend())
        # All coroutines share a connection. If a transaction is open there, nobody knows whose.
        self._shares_connection = iscoroutinefunction(task.func)
        self._open_before = _open_transactions()
        self._result = _running(task, self._row, current.started_at, args, kwargs)
        self.args = args
        if task.takes_context:
            self.args = (TaskContext(task_result=self._result), *args)
            if self._shares_connection:
                # Fetch it now: Django allows no query in the event loop, where the function runs.
                _ = self._result.enqueued_at

    def checked(self, value: Any) -> Any:
        """What is kept of the function's return value: what JSON makes of it.

        Raises:
            ResultNotJSON: the value is not JSON.
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
        """Send `task_finished` for a run that has returned.

        Args:
            value: what `checked` returned.
        """
        if not self._shares_connection and _open_transactions() - self._open_before:
            # The task left a transaction open. The executor will find that too and fail the run.
            return
        self._end(TaskResultStatus.SUCCESSFUL, _return_value=value)
        self.send(task_finished)

    def failed(self, error: BaseException) -> None:
        """Send `task_finished` for a run that has raised, unless the task is to run again.

        For a task that cancels itself it is sent when that is recorded. Call this while the
        exception is handled.
        """
        if isinstance(error, Cancel | Snooze):
            return
        if executor.delay_after(self._row, error) is not None:
            return
        _finished_sent.add(self._row.pk)
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
        """Send a signal of Django's tasks framework with the result of this run."""
        receivers.send(signal, self._sender, task_result=self._result)


def _running(
    task: DatabaseTask,
    row: Task,
    started_at: datetime,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> RunningResult:
    before = attempts.of(row.pk, row.attempts - 1)
    result = RunningResult(
        task=_as_enqueued(task, row, task.backend),
        id="" if row.pk is None else str(row.pk),
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
    object.__delattr__(result, "enqueued_at")  # so that __getattr__ is asked for it
    return result


def _open_transactions() -> set[str]:
    return {
        connection.alias
        for connection in connections.all(initialized_only=True)
        if connection.connection is not None
        and (connection.in_atomic_block or not connection.autocommit)
    }


def _send_finished(task_id: int, completed_task: CompletedTask, **kwargs: Any) -> None:
    """Receives `task_failed`, and sends `task_finished` if the run itself could not.

    That is so for a task whose process was killed, that was revoked, or that never started.
    """
    task = declared(completed_task.task_name)
    if task is None:
        return
    if task_id in _finished_sent:
        _finished_sent.discard(task_id)
    elif result := read(task_id, task.backend):
        receivers.send(task_finished, type(task.get_backend()), task_result=result)


# --- reading


def read(task_id: int, backend: str) -> TaskResult | None:
    """The result of a call as it is now.

    None if there never was such a call, if it is none of a `@task`, or if it was deleted or pruned.
    """
    # If it ends after the first query and before the second, neither finds it, and the third does.
    with outcomes.reading(task_id, "what is stored of it"):
        return _ended(task_id, backend) or _queued(task_id, backend) or _ended(task_id, backend)


def _queued(task_id: int, backend: str) -> TaskResult | None:
    row = Task.objects.using(db.alias()).filter(pk=task_id, failed_at=None).first()
    task = row and _task_of(row)
    if task is None:
        return None
    before = attempts.of(task_id, row.attempts)
    latest = _started(before[-1]) if before else None
    runs = is_running(row.locked_by)
    if runs:
        # The row does not say when its run began. This is the earliest time at which it can have.
        latest = max([row.run_at, *(attempt.ended_at for attempt in before)])
    return _result(
        row,
        task,
        before,
        id=str(task_id),
        status=TaskResultStatus.RUNNING if runs else TaskResultStatus.READY,
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
    before = attempts.of(task_id, row.attempts)
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
        value = outcomes.value(task_id, outcome.result)
        object.__setattr__(result, "_return_value", value)
    if not succeeded:
        _explain(result, outcome, row.last_error)
    return result


def _explain(result: TaskResult, outcome: Outcome, story: str) -> None:
    """Complete the errors of a result that has failed by what its outcome says."""
    if outcome.exception and result.errors:
        # The outcome names the exception's class; in `errors` it was guessed from the traceback.
        path, traceback = json.loads(outcome.exception)["type"], result.errors.pop().traceback
        result.errors.append(RunError(exception_class_path=path, traceback=traceback))
    if outcome.state == Outcome.State.CANCELLED:
        error = RunError(exception_class_path=_path(TaskRevoked), traceback=story)
        result.errors.append(error)


def _result(
    row: Task | CompletedTask, task: DatabaseTask, before: Sequence[Attempt], **values: Any
) -> TaskResult:
    args, kwargs = _arguments(row)
    worker_ids = [attempt.claim for attempt in before]
    if row.locked_by and len(worker_ids) < row.attempts:
        worker_ids.append(row.locked_by)  # the run under way, or the one that succeeded
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
    """The arguments of a row. One that cannot be read, which is why it failed, has none here."""
    try:
        return arguments_of(row)
    except BrokenRow:
        return [], {}


def _task_of(row: Task | CompletedTask) -> DatabaseTask | None:
    if row.task_name not in upstream.tasks._tasks:
        # A process that has enqueued nothing may not have imported the tasks yet. This imports
        # every app's `tasks` module, as workers do, and never a module that a row names.
        for _ in registry.import_task_modules():
            pass  # what cannot be imported is reported by the worker
    return declared(row.task_name)


def _as_enqueued(
    task: DatabaseTask,
    row: Task | CompletedTask,
    backend: str,
    run_after: datetime | None = None,
) -> DatabaseTask:
    """The task as it was when the row was enqueued.

    It is not made by `using()`, which would refuse a queue that has left the setting since.
    """
    values = {each.name: getattr(task, each.name) for each in fields(task)}
    values |= {"priority": conf.as_stored(row.priority), "backend": backend, "run_after": run_after}
    values["queue_name"] = row.queue or task.queue_name
    copy = object.__new__(type(task))
    for name, value in values.items():
        object.__setattr__(copy, name, value)
    return copy


def _run_after(row: Task | CompletedTask) -> datetime | None:
    """The time before which a row must not start; None if there is none, or it is not known.

    It is not known once the row was tried: then `run_at` is the time of the next try.
    """
    if isinstance(row, CompletedTask) or row.attempts or row.repeat_until is None:
        return None
    return row.run_at if row.run_at > row.repeat_until else None


def _started(attempt: Attempt) -> datetime:
    """When a run began. For one that was lost with its worker: when that was noticed."""
    return attempt.started_at or attempt.ended_at


def _errors(before: Sequence[Attempt]) -> list[TaskError]:
    return [
        RunError(exception_class_path=_path_of(attempt), traceback=attempt.error)
        for attempt in before
    ]


def _path_of(attempt: Attempt) -> str:
    """The path of the class of the exception that ended an attempt, as far as that is known."""
    state = Attempt.State(attempt.state)
    if state in NO_EXCEPTION:
        return _path(NO_EXCEPTION[state])
    return raised(attempt.error) or _path(TaskFailed)


def _path(class_: type[BaseException]) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


# Matches the first line of a traceback after the frames: it is not indented and names the class.
_RAISED = re.compile(r"([\w.<>]+)(?::|$)")


def raised(traceback: str) -> str | None:
    """The path of the class of the last exception in a traceback that Python has printed.

    None if the text is no traceback. Python prints no module for a class of `builtins` or of
    `__main__`.
    """
    found = _RAISED.match(tracebacks.exception_line(traceback))
    path = found and found[1]
    if path is None or "." in path:
        return path
    return f"builtins.{path}" if hasattr(builtins, path) else f"__main__.{path}"
