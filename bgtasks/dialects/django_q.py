"""Django Q's words: ``from bgtasks.dialects.django_q import async_task, result, fetch``.

A row names its function by a dotted path, and rows are data that somebody else may write. So the
path must lead to a function of an installed app's ``tasks`` module. That is checked when the call
is enqueued, and again when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from types import FunctionType
from typing import Any

from background_task import tasks as upstream
from background_task.models import Task
from django.apps import apps
from django.db import transaction

from bgtasks import calls
from bgtasks.exceptions import (
    Cancel,
    ForbiddenFunction,
    InvalidOption,
    MissingFunction,
    NotJSON,
    ResultTimeout,
    Snooze,
    UnknownOption,
    UnknownResult,
)
from bgtasks.logs import get_logger
from bgtasks.models import CallOptions, CompletedTask, Outcome
from bgtasks.queue import claims, enqueue, outcomes
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import MARK, arguments_of, read_options
from bgtasks.results import AsyncResult
from bgtasks.running import inline
from bgtasks.running.run import claimed_here
from bgtasks.tasks import columns
from bgtasks.tasks.decorator import background

__all__ = ["EndedTask", "async_task", "fetch", "result"]

# Options of Django Q that are not supported here. Django Q takes them off the keyword arguments of
# a call, so that no function of a project that used it expects an argument of such a name.
REFUSED = {
    "ack_failure", "broker", "cached", "chain", "cluster", "group", "iter_cached", "iter_count",
    "save",
}  # fmt: skip
SUPPORTED = ("task_name", "sync", "timeout", "hook")
# Installed apps whose `tasks` modules are parts of the task system: rows may name nothing there.
TASK_SYSTEM = {"bgtasks", "background_task"}
# Seconds after which a worker tries a call again whose function it did not have.
MISSING_FUNCTION_DELAY = 10.0
# As many characters as the column `verbose_name` holds.
LONGEST_NAME = 255


logger = get_logger(__name__)


@dataclass(frozen=True)
class EndedTask:
    """What became of a call that has ended.

    Attributes:
        id: the id that its row had, as a text.
        name: the call's ``task_name``; if it had none, `func`.
        func: the path of the function; if that is a task, the task's name.
        hook: the path of the function that is called with this; None if there is none.
        args: the positional arguments; none if the row cannot be read.
        kwargs: the keyword arguments; none if the row cannot be read.
        result: what the function returned. If the call failed: the traceback, or another text
            that says why.
        success: whether the function returned; False also if the call was cancelled.
        started: when the last attempt began; None if it was never run.
        stopped: when it ended.
        attempt_count: how many attempts there were.
    """

    id: str
    name: str
    func: str
    hook: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    result: Any
    success: bool
    started: datetime | None
    stopped: datetime | None
    attempt_count: int


def async_task(
    func: Callable[..., Any] | str,
    *args: Any,
    q_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> str:
    """Enqueue a call of a function, or of a task, of an installed app's ``tasks`` module.

    Args:
        func: the function or its dotted path.
        args: the function's positional arguments.
        q_options: ``task_name``, a text; ``timeout``, in seconds; ``hook``, a function or its
            path, under the same rule as `func`, which is called with the `EndedTask` when this
            call has ended; ``sync``, whether to run the call here and now, once, and to raise
            what it raises.
        kwargs: the function's keyword arguments. An option that `q_options` does not have may
            stand among them too.

    Returns:
        The id of the call.

    Raises:
        ForbiddenFunction: `func` or the hook is not a function of an installed app's ``tasks``.
        InvalidOption: the ``task_name`` is no text, is too long, or is a number.
        NotJSON: an argument is not JSON.
        UnknownOption: an option of Django Q's that is not supported.
    """
    options = _options(kwargs, q_options or {})
    path = path_of(func)
    if (hook := options.get("hook")) is not None:
        hook = path_of(hook)
    name = _checked_name(options.get("task_name"))
    if options.get("sync"):
        return _run_here(path, args, kwargs, name, hook, options.get("timeout"))
    own = {"timeout": options.get("timeout"), "hook": hook, "then": hook and call_hook.name}
    own = {key: value for key, value in own.items() if value is not None}
    if (task := _task(find(path))) is not None:
        return str(calls.submit(task, args, kwargs, options=own, verbose_name=name).pk)
    return str(_submit(call, path, args, kwargs, name, own).pk)


def _options(kwargs: dict[str, Any], q_options: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the options from the function's keyword arguments, and return all options.

    Raises:
        UnknownOption: one of them is not supported.
        InvalidOption: ``q_options`` is no dict.
    """
    if not isinstance(q_options, Mapping):
        raise InvalidOption(
            f"q_options of async_task() is of type {type(q_options).__name__}: give a dict."
        )
    others = [name for name in q_options if name not in SUPPORTED]
    others += [name for name in kwargs if name in REFUSED]
    if others:
        raise UnknownOption(
            f"async_task(): {', '.join(others)} is not supported by bgtasks.dialects.django_q. "
            f"Supported are: {', '.join(SUPPORTED)}."
        )
    return {name: kwargs.pop(name) for name in SUPPORTED if name in kwargs} | dict(q_options)


def _checked_name(name: str | None) -> str | None:
    if name is None or (isinstance(name, str) and not name.isdigit() and len(name) <= LONGEST_NAME):
        columns.check_text(name, "async_task()", "verbose_name", option="task_name")
        return name
    raise InvalidOption(
        f"task_name {name!r}: give a text of at most {LONGEST_NAME} characters that is no number, "
        "for ids are numbers."
    )


def _submit(
    runner: Any, path: str, args: Any, kwargs: Any, name: str | None, options: Mapping[str, Any]
) -> Task:
    try:
        row: Task = calls.submit(
            runner,
            (path, *args),
            kwargs,
            options=options,
            verbose_name=name or path[:LONGEST_NAME],
        )
    except NotJSON:
        # The caller does not count the path as an argument. This raises the error with the number
        # that the argument has for the caller.
        enqueue.parameters(path, args, kwargs)
        raise
    return row


def _run_here(
    path: str, args: Any, kwargs: Any, name: str | None, hook: str | None, timeout: float | None
) -> str:
    own = {"timeout": timeout, "hook": hook}
    own = {key: value for key, value in own.items() if value is not None}
    with transaction.atomic(using=db.alias()):
        row = _submit(call_once, path, args, kwargs, name, own)
        # Within the transaction, so that no worker can claim it. In eager mode it has run already,
        # and there is no row to claim.
        held = claims.claim_row(row, upstream.tasks._runner.worker_name)
    failure = inline.run(claimed_here(row), hooks_wait=True) if held else None
    if hook and (ended := fetch(str(row.pk))):
        runnable(hook)(ended)
    if failure:
        raise failure
    if (result := AsyncResult(row)).ready():  # else it asked to be run later, by a worker
        result.get()
    return str(row.pk)


def result(task_id: str, wait: int = 0) -> Any:
    """What a call returned, or the traceback of its failure; None if it has not ended.

    Args:
        task_id: the id, or the name. If several calls have that name, the one that ended last.
        wait: milliseconds to wait at most for its end; -1: without a limit.

    Raises:
        WouldBlock: the caller would wait inside a transaction, or inside a task that occupies the
            only worker.
    """
    ended = fetch(task_id, wait)
    return None if ended is None else ended.result


def fetch(task_id: str, wait: int = 0) -> EndedTask | None:
    """What became of a call; None if it has not ended, or nothing is known of it.

    Args:
        task_id: the id, or the name. If several calls have that name, the one that ended last.
        wait: milliseconds to wait at most for its end; -1: without a limit.

    Raises:
        WouldBlock: the caller would wait inside a transaction, or inside a task that occupies the
            only worker.
    """
    found = outcomes.id_of(task_id)
    if found is None:
        found = _named(task_id)
    if found is None:
        return None
    if wait:
        with suppress(ResultTimeout, UnknownResult):
            AsyncResult(found).get(None if wait < 0 else wait / 1000, propagate=False)
    return _ended(found)


def _named(name: str) -> int | None:
    """The id of the call of that name that ended last; if none has ended, the one enqueued last."""
    using = db.alias()
    completed = CompletedTask.objects.using(using).filter(verbose_name=name)
    ended = Outcome.objects.using(using).filter(completed_id__in=completed.values("pk"))
    queued = Task.objects.using(using).filter(verbose_name=name, failed_at=None)
    return (
        ended.order_by("-completed_id").values_list("pk", flat=True).first()
        or queued.order_by("-pk").values_list("pk", flat=True).first()
    )


def _ended(task_id: int) -> EndedTask | None:
    with outcomes.reading(task_id, "its outcome"):
        outcome = outcomes.outcome_of(task_id)
    if outcome is None:
        return None
    rows = CompletedTask.objects.using(db.alias()).filter(pk=outcome.completed_id)
    row = rows.only("task_name", "task_params", "verbose_name", "last_error").first()
    if row is None:
        return None
    func, args, kwargs = _called(row)
    succeeded = outcome.state == Outcome.State.SUCCEEDED
    value = outcomes.value(task_id, outcome.result)
    return EndedTask(
        id=str(task_id),
        name=row.verbose_name or func,
        func=func,
        hook=_hook_of(task_id),
        args=args,
        kwargs=kwargs,
        result=value if succeeded else row.last_error,
        success=succeeded,
        started=outcome.started_at,
        stopped=outcome.finished_at,
        attempt_count=outcome.attempts,
    )


def _called(row: CompletedTask) -> tuple[str, list[Any], dict[str, Any]]:
    """The function's path and its arguments.

    A row whose arguments cannot be read, which is why it failed, has no arguments here.
    """
    try:
        args, kwargs = arguments_of(row)
        if row.task_name not in {call.name, call_once.name}:
            return row.task_name, args, kwargs
        func, *args = args
    except ValueError:
        return row.task_name, [], {}
    return func, args, kwargs


def _hook_of(task_id: int) -> str | None:
    options = CallOptions.objects.using(db.alias()).filter(pk=task_id)
    text = options.values_list("options", flat=True).first()
    hook: str | None = read_options(text, MARK).get("hook")
    return hook


# --- from a path to a function


def path_of(function: Callable[..., Any] | str) -> str:
    """The path by which a row may name a function.

    Raises:
        ForbiddenFunction
    """
    if isinstance(function, str):
        path = function
    else:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        module = str(getattr(function, "__module__", None))
        # If `tasks` is a package, a function of one of its modules is named by the package, which
        # has to import it.
        package, inside, _ = module.partition(".tasks.")
        path = f"{package}.tasks.{name}" if inside else f"{module}.{name}"
    found = find(path)
    if not isinstance(function, str) and found is not function:
        raise _forbidden(path, "another function has that name there")
    return path


def find(path: str) -> Any:
    """The function or task that a path names. Nothing is imported but apps' ``tasks`` modules.

    Raises:
        ForbiddenFunction: it is no function at the top of such a module.
    """
    module_name, _, name = path.rpartition(".")
    app = module_name.removesuffix(".tasks")
    installed = any(config.name == app for config in apps.get_app_configs())
    if not installed or app == module_name or app in TASK_SYSTEM:
        raise _forbidden(path, f"{module_name or path} is no `tasks` module of an installed app")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise _forbidden(path, f"{app} has no `tasks` module", MissingFunction) from None
    if not hasattr(module, name):
        raise _forbidden(path, f"{name} is not declared in {module_name}", MissingFunction)
    found = getattr(module, name)
    home = getattr(found, "__module__", None) or ""
    if home != module_name and not home.startswith(f"{module_name}."):
        raise _forbidden(path, f"{name} is not declared in {module_name}")
    if found.__name__ == "<lambda>" if isinstance(found, FunctionType) else _task(found) is None:
        raise _forbidden(path, f"{name} is no function: its type is {type(found).__name__}")
    return found


def _forbidden(
    path: str, reason: str, kind: type[ForbiddenFunction] = ForbiddenFunction
) -> ForbiddenFunction:
    return kind(
        f"{path} is not run: {reason}. Rows are data, so they may name only functions at the top "
        "of an installed app's tasks.py. Write one there, and let it call this."
    )


def _task(found: Any) -> Any:
    """The registry's entry for what a path led to, if that is a task; else None."""
    known = upstream.tasks._tasks.get(getattr(found, "name", None))
    return known if known in (found, getattr(found, "proxy", None)) else None


def runnable(path: str) -> Callable[..., Any]:
    """The function of a path, to be called here. If it is a task, the function of the task.

    Raises:
        ForbiddenFunction
    """
    found = find(path)
    task = _task(found)
    function: Callable[..., Any] = found if task is None else task.task_function
    return function


# --- the tasks that workers run


def _runnable_or_snooze(path: str) -> Callable[..., Any]:
    """As `runnable`, for a worker, which puts a call off whose function it does not have.

    Raises:
        ForbiddenFunction
        Snooze: the function is missing. The process that enqueued the call had it, so its code is
            newer than this worker's.
    """
    try:
        return runnable(path)
    except MissingFunction as error:
        logger.warning(
            "A call waits for a worker that has its function: %s If the function exists, restart "
            "the workers that were started before it did.",
            error,
        )
        raise Snooze(MISSING_FUNCTION_DELAY) from None


# Rows carry these three names, so they must not change, even if this module is moved.
@background(name="bgtasks.dialects.django_q.call")
def call(path: str, /, *args: Any, **kwargs: Any) -> Any:
    """Run the function of a path."""
    return _runnable_or_snooze(path)(*args, **kwargs)


@background(name="bgtasks.dialects.django_q.call_once", max_attempts=1)
def call_once(path: str, /, *args: Any, **kwargs: Any) -> Any:
    """Run the function of a path, once, for ``sync=True``: the caller waits in this process."""
    return runnable(path)(*args, **kwargs)


@background(name="bgtasks.dialects.django_q.call_hook")
def call_hook(task_id: int) -> Any:
    """Call the hook of a task that has ended with its `EndedTask`."""
    ended = fetch(str(task_id))
    if ended is None or ended.hook is None:
        raise Cancel(f"nothing is known of task {task_id} any more")
    return _runnable_or_snooze(ended.hook)(ended)
