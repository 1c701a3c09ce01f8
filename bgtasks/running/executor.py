"""From one claimed row to one ending: a straight pipeline.

It writes nothing to the task tables, but for the success of an atomic task.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from inspect import isawaitable
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from background_task import signals
from background_task.exceptions import InvalidTaskError
from background_task.models import Task
from django.dispatch import Signal
from django.utils import timezone, translation

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.exceptions import (
    BrokenRow,
    BrokenTransaction,
    Cancel,
    LeakedTransaction,
    ResultNotJSON,
    Retry,
    Snooze,
    TaskTimeout,
)
from bgtasks.logs import get_logger
from bgtasks.models import Attempt
from bgtasks.operations import arguments as sensitive_arguments
from bgtasks.queue import receivers, run_log
from bgtasks.queue.claimed_row import ClaimedRow, arguments_of
from bgtasks.queue.ending import Ending, stopped_run
from bgtasks.results import AsyncResult
from bgtasks.running import atomic, copies, programs, tracing
from bgtasks.running.isolation import Surroundings, tidy_shared
from bgtasks.running.run import Run
from bgtasks.serialize import codec, remote_errors
from bgtasks.serialize.remote_errors import RemoteTraceback
from bgtasks.tasks import current, policies
from bgtasks.tasks.backoff import retry_delay

logger = get_logger(__name__)
T = TypeVar("T")


def run(run: Run, around: Surroundings | None = None) -> Ending:
    """Run a row's function with its arguments. It never raises.

    Whatever the function raises, SystemExit and KeyboardInterrupt included, is a failed attempt.
    The function starts with fresh context variables, no active translation or time zone, and
    usable connections with no transaction open. A coroutine is cancelled when its limit is over. A
    plain function cannot be interrupted; the supervisor ends its process.

    Args:
        around: the surroundings of this thread. A thread that runs many rows keeps one, which
            saves checking connections twice. None: new ones.
    """
    row, around = run.claimed.row, around or Surroundings()
    try:
        return _run(run, around)
    except BaseException as error:  # an error of bgtasks: `_run` has caught the task's own
        ending = fallen(row, error)
    ending.options = run.claimed.options
    return ending


def _run(run: Run, around: Surroundings) -> Ending:
    row, began = run.claimed.row, elapsed()
    if signals.task_started.receivers:
        receivers.send(signals.task_started, Task)
        around.distrust()
    span, ending = None, None
    try:
        around.enter()
        context = around.context()
        span = context.run(tracing.begin, run.claimed) if conf.traces() else None
        args, kwargs = arguments(run.claimed)
        context.run(current.enter, run.task)
        try:
            ending = context.run(_called_atomically if run.atomic else _called, run, args, kwargs)
        finally:
            leaks = around.leave()
        if leaks:
            raise LeakedTransaction(_complaint(row, leaks))
    except BaseException as error:
        if ending is None or ending.recorded is None:
            ending = _failed_run(run, error, began)
        else:
            logger.exception("This changes nothing in the outcome of task %s (id %s):", row, row.pk)
    if ending.succeeded and not ending.snoozed and ending.recorded is not False:
        run_log.succeeded(row, began)
    _complete(ending, run)
    if span is not None:
        tracing.end(span, ending)
    if signals.task_finished.receivers:
        receivers.send(signals.task_finished, Task)
        around.distrust()
    return ending


@dataclass(slots=True)
class Cancellation:
    """Why a worker cancels a run.

    Attributes:
        why: the reason, as the beginning of a sentence. It is set before the cancellation, and
            empty as long as the worker lets the run go on.
    """

    why: str = ""


async def run_coroutine(run: Run, cancellation: Cancellation) -> Ending:
    """Run a row's coroutine function, with many others in one event loop.

    This does what `run` does. But all coroutines share the thread and the connections of the ORM:
    a transaction that one of them leaves open there is rolled back and logged, and it is not known
    which one has left it.

    Args:
        cancellation: the worker sets its reason before it cancels this run.

    Raises:
        Unstarted: the run was cancelled before its function was called. Nothing else is raised.
    """
    try:
        ending = await _run_coroutine(run, cancellation)
    except Unstarted:
        raise
    except BaseException as error:  # an error of bgtasks: `_run_coroutine` has caught the task's
        ending = fallen(run.claimed.row, error)
    ending.options = run.claimed.options
    return ending


async def _run_coroutine(run: Run, cancellation: Cancellation) -> Ending:
    row, began, span = run.claimed.row, elapsed(), None
    try:
        await _send(signals.task_started)
    except asyncio.CancelledError:
        raise Unstarted from None
    try:
        tidy_shared()
        # These enter the context of this asyncio task, which no other task has.
        span = tracing.begin(run.claimed) if conf.traces() else None
        current.enter(run.task)
        args, kwargs = arguments(run.claimed)
        translation.deactivate()
        timezone.deactivate()
        generation = copies.generation
        try:
            result = await _cancelled_in_time(run.function(*args, **kwargs), run.limit)
        finally:
            if copies.generation != generation:
                copies.end_copy(str(row))
        ending = Ending(row, result=_encoded(row, result))
        run_log.succeeded(row, began)
    except asyncio.CancelledError as error:
        if cancellation.why:
            ending = stopped_run(row, f"{cancellation.why}.")
        else:
            ending = await _uncancelled(_failed(row, error, began))
    except BaseException as error:
        ending = await _uncancelled(_failed(row, error, began))
    _complete(ending, run)
    if span is not None:
        tracing.end(span, ending)
    tidy_shared()
    await _uncancelled(_send(signals.task_finished))
    return ending


def _failed_run(run: Run, error: BaseException, began: float) -> Ending:
    if run.atomic:
        run.task.children = ()  # they are gone with all that it wrote
    return failed(run.claimed.row, error, began)


def _complete(ending: Ending, run: Run) -> None:
    """Note in an ending what is known of the run."""
    ending.started_at, ending.children = run.task.started_at, run.task.children
    ending.options = run.claimed.options


def _encoded(row: Task, result: Any) -> str | None:
    """A result as JSON; None for None, and for one that is dropped.

    Raises:
        ResultNotJSON: the result cannot be kept as JSON.
    """
    keep = policies.of(row.task_name).result
    if result is None or keep == "ignore":
        return None
    try:
        return codec.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        text = (
            f"Task {row} (id {row.pk}) returned a value of type "
            f"{type(result).__name__}, which cannot be kept as JSON ({error})."
        )
        if keep == "if-json":
            logger.warning("%s It is dropped.", text)
            return None
        raise ResultNotJSON(
            f"{text} Return text, numbers, lists or dicts, of a model instance the primary key, "
            "or nothing."
        ) from None


async def _uncancelled(step: Coroutine[Any, Any, T]) -> T:
    """Do a step to its end, even if this run is cancelled meanwhile.

    The run has ended by then, and that ending must be recorded, and not the cancellation.
    """
    task = asyncio.ensure_future(step)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


async def _send(signal: Signal) -> None:
    if signal.receivers:
        await sync_to_async(receivers.send)(signal, Task)


async def _failed(row: Task, error: BaseException, began: float) -> Ending:
    # Receivers, and a backoff that is a function, may use the database: not in the event loop.
    in_thread = signals.task_error.receivers or callable(policies.of(row.task_name).backoff)
    if in_thread:
        return await sync_to_async(failed)(row, error, began)
    return failed(row, error, began)


class Unstarted(Exception):
    """The run of a coroutine was cancelled before its function was called."""


def arguments(claimed: ClaimedRow) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a row carries.

    Raises:
        BrokenRow: the arguments or the options of the row cannot be read.
        Cancel: the row has expired.
    """
    row = claimed.row
    if broken := claimed.options.get("broken"):
        raise BrokenRow(
            f"The options of task {row.task_name} (id {row.pk}) cannot be read: {broken}."
        )
    expires = claimed.options.get("expires")
    if expires is not None and timezone.now().timestamp() > expires:
        raise Cancel("it has expired")
    return arguments_of(row)


def _called_atomically(run: Run, args: list[Any], kwargs: dict[str, Any]) -> Ending:
    def body() -> Ending:
        ending = _called(run, args, kwargs)
        _complete(ending, run)
        return ending

    return atomic.run(run, body)


def _called(run: Run, args: list[Any], kwargs: dict[str, Any]) -> Ending:
    """Call the function; returns the ending of its success."""
    row, generation = run.claimed.row, copies.generation
    try:
        result = run.function(*args, **kwargs)
        # The result is asked, and not the function: that may wrap a coroutine function.
        if result is not None and isawaitable(result):
            result = async_to_sync(_cancelled_in_time)(result, run.limit)
    finally:
        if copies.generation != generation:
            copies.end_copy(str(row))
    return Ending(row, result=_encoded(row, result))


async def _cancelled_in_time(result: Awaitable[Any], limit: float | None) -> Any:
    """Await the result; after ``limit`` seconds, cancel it.

    Raises:
        TaskTimeout: it took longer than ``limit`` seconds.
    """
    with programs.killed_if_cancelled():
        if limit is None:
            return await result
        try:
            async with asyncio.timeout(limit) as timeout:
                return await result
        except TimeoutError:
            if not timeout.expired():
                raise
            raise TaskTimeout(f"It ran longer than {limit:g} s and was cancelled.") from None


def failed(row: Task, error: BaseException, began: float | None = None) -> Ending:
    """The ending of a run that raised. Call it while the exception is handled.

    The row is tried again unless it has no attempts left, or the exception says that a further
    attempt would not help.

    Args:
        began: when the run began, by `elapsed`; None if that is not known.
    """
    seconds = None if began is None else elapsed() - began
    if isinstance(error, Cancel):
        return _cancelled(row, error.reason, seconds)
    if isinstance(error, Snooze):
        ending = Ending(row, delay=error.after, snoozed=True)
        run_log.snoozed(ending, seconds)
        return ending
    ending = _failure(row, error)
    if isinstance(error, Retry) and ending.again:
        run_log.asked_to_be_tried_again(ending, seconds)
    else:
        _report_failure(ending, error, seconds)
    return ending


def _failure(row: Task, error: BaseException) -> Ending:
    delay = delay_after(row, error)
    timed_out = isinstance(error, TaskTimeout)
    state = Attempt.State.TIMED_OUT if timed_out else Attempt.State.FAILED
    own = _own(error)
    text, described = _hidden(row, _text(own)), _hidden(row, remote_errors.describe(own))
    return Ending(row, state, text, delay, exception=described, is_logged=True)


def _hidden(row: Task, text: str) -> str:
    return sensitive_arguments.hidden(text, row.task_name, row.task_params)


UNSHOWN = "An exception that cannot be shown: "


def _text(error: BaseException) -> str:
    """The traceback of an exception; if that cannot be printed, the exception's type."""
    try:
        return "".join(traceback.format_exception(*_exc_info(error)))
    except BaseException as reason:
        return f"{UNSHOWN}{type(error).__qualname__} (for {type(reason).__qualname__})"


def fallen(row: Task, error: BaseException) -> Ending:
    """The ending of a run in which bgtasks itself raised an error. It never raises."""
    try:
        return failed(row, error)
    except BaseException:
        # The traceback is left out, for the log's formatter may fail to print it too.
        logger.error("The failure of task %s (id %s) cannot be shown.", row.task_name, row.pk)
        delay = retry_delay(row.attempts) if row.attempts < conf.max_attempts() else None
        return Ending(row, Attempt.State.FAILED, type(error).__qualname__, delay)


def _cancelled(row: Task, reason: str, seconds: float | None) -> Ending:
    """The ending of a row that is not to be run, or not to be run again."""
    text = f"Cancelled: {reason}" if reason else "Cancelled."
    run_log.cancelled(row, reason, seconds)
    return Ending(row, cancelled=True, error=text)


def _report_failure(ending: Ending, error: BaseException, seconds: float | None) -> None:
    run_log.failed(ending, seconds, _exc_info_for_log(ending.row, error))
    # We are inside an `except` block, so that receivers can ask for the current exception.
    receivers.send(signals.task_error, type(error), task=ending.row)


def _exc_info_for_log(row: Task, error: BaseException) -> Any:
    """What the log is to print of an exception: as text, if that names a sensitive value."""
    text = _text(error)
    if text.startswith(UNSHOWN):
        return None  # the log's formatter would fail too
    if (hidden := _hidden(row, text)) == text:
        return _exc_info(error)
    return RemoteTraceback, RemoteTraceback(hidden), None


def _own(error: BaseException) -> BaseException:
    """The task's own exception. Of a Retry that is the one that it was raised from, if any."""
    return error.__cause__ or error if isinstance(error, Retry) else error


def delay_after(row: Task, error: BaseException) -> timedelta | None:
    """How long to wait before the row is tried again; None: it is not tried again.

    The attempts are compared here, where a task has failed, and not where a run was lost with its
    worker: so a lost run is repeated even if it was the last attempt.
    """
    policy = policies.of(row.task_name)
    if isinstance(error, Retry) and error.counted:
        return error.after
    if isinstance(error, InvalidTaskError) or row.attempts >= policy.most_attempts:
        return None
    if isinstance(error, Retry) and error.after is not None:
        return error.after
    if not callable(policy.backoff):
        return retry_delay(row.attempts, policy.backoff)
    try:
        seconds = policy.backoff(_own(error), AsyncResult(row.pk))
        return None if seconds is None else retry_delay(row.attempts, float(seconds))
    except BaseException:
        logger.exception("The backoff of task %s raised; it waits as by default.", row.task_name)
        return retry_delay(row.attempts)


_OURS = {__file__, atomic.__file__}
_TOLD = (BrokenRow, BrokenTransaction, LeakedTransaction, ResultNotJSON, TaskTimeout)


def _exc_info(error: BaseException) -> tuple[type[BaseException], BaseException, Any]:
    """What to print of an exception, as ``exc_info``: the traceback from the task's own code on.

    Exceptions that bgtasks raises itself get no traceback: their message says everything.
    """
    if isinstance(error, _TOLD):
        return type(error), error.with_traceback(None), None
    frames = error.__traceback__
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename in _OURS:
        frames = frames.tb_next
    return type(error), error, frames


def _complaint(row: Task, aliases: Sequence[str]) -> str:
    return (
        f"Task {row} (id {row.pk}) left a transaction open on {', '.join(aliases)}. What it wrote "
        "there was rolled back. Commit it, or use `with transaction.atomic():`."
    )
