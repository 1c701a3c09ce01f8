"""For the tests of a project: run waiting rows here and now, and look at what was enqueued.

Everything here uses the connection of the calling thread. So it works inside the transaction that
a `TestCase` rolls back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest import mock

from background_task import signals
from background_task.models import Task
from django.test.utils import override_settings
from django.utils import timezone

from bgtasks import calls, conf
from bgtasks.logs import get_logger
from bgtasks.queue import claims, enqueue
from bgtasks.queue.claimed_row import arguments_of
from bgtasks.results import AsyncResult
from bgtasks.running import inline
from bgtasks.running.eager import CLAIM, LIMIT, call_of, call_text, is_from_outside
from bgtasks.running.run import claimed_here
from bgtasks.serialize import codec
from bgtasks.tasks import registry

__all__ = [
    "Enqueued",
    "assert_enqueued",
    "assert_nothing_enqueued",
    "capture",
    "eager",
    "enqueued",
    "run_pending",
]
logger = get_logger(__name__)

# How many rows a failed assertion lists.
LISTED = 20


# --- running rows


def run_pending(
    *,
    queue: str | None = None,
    raise_failures: bool = True,
    include_later: bool = False,
    at: datetime | None = None,
    limit: int = LIMIT,
) -> list[AsyncResult]:
    """Run the rows that are ready, and those that they enqueue, until no row is ready.

    They run in this thread, one after another, in the order in which a worker would take them.

    Args:
        queue: run only rows of this queue; None for all queues.
        raise_failures: whether to raise what a task raises, after it is recorded. False only
            records it, and runs the other rows.
        include_later: whether to run rows that are not due yet too: those with a delay, and
            further attempts. A repeating row is run once; its next repetition stays in the queue.
        at: the time that Django's ``timezone.now()`` returns meanwhile, so that rows are due that
            would be due then; None: the time is not changed.
        limit: the most rows to run.

    Returns:
        The results, one for each run, in the order of the runs.

    Raises:
        AssertionError: after `limit` runs there was still a row to run.
        TaskModuleError: a ``tasks.py`` cannot be imported.
        Exception: whatever a task raises, if `raise_failures`.
    """
    registry.autodiscover()  # the test may not have imported the tasks that the rows name
    ran: list[AsyncResult] = []
    repeated: set[str] = set()
    with _clock_at(at):
        while row := _next(queue, include_later, repeated):
            if len(ran) >= limit:
                raise AssertionError(_endless(limit, row))
            if not claims.claim_row(row, CLAIM):
                continue  # another thread has claimed it meanwhile
            if row.repeat > 0:
                repeated.add(row.task_hash)
            failure = inline.run(claimed_here(row))
            ran.append(AsyncResult(row))
            if failure and (raise_failures or is_from_outside(failure)):
                failure.add_note(_advice(row))
                raise failure
    return ran


@contextmanager
def _clock_at(moment: datetime | None) -> Iterator[None]:
    if moment is None:
        yield
        return
    then = calls.aware(moment, "run_pending", "at")
    with mock.patch.object(timezone, "now", return_value=then):
        yield


def _next(queue: str | None, include_later: bool, repeated: set[str]) -> Task | None:
    """The row that a worker would take next; with `include_later`, also one that is not due yet."""
    rows = claims.free().filter(task_name__in=registry.names())
    if queue:
        rows = rows.filter(queue=queue)
    urgency = "priority" if conf.lowest_number_first() else "-priority"
    ready = rows.filter(run_at__lte=timezone.now()).order_by(urgency, "run_at", "pk").first()
    if ready or not include_later:
        return ready
    later = rows.exclude(repeat__gt=0, task_hash__in=repeated)
    return later.order_by("run_at", urgency, "pk").first()


def _advice(row: Task) -> str:
    return (
        f"Raised by task {row.task_name} (id {row.pk}, attempt {row.attempts}). If it should only "
        "be recorded, as a worker does, and the test go on: run_pending(raise_failures=False)."
    )


def _endless(limit: int, row: Task) -> str:
    return (
        f"{limit} rows were run, and {call_of(row)} is still to be run. Does a task enqueue "
        "itself again and again, or snooze for ever? If the test needs so many, give run_pending "
        "a higher limit."
    )


# --- eager mode


def eager(propagate: bool = True) -> override_settings:
    """Run each task inside the call that enqueues it.

    The result is a context manager, and a decorator of functions and of Django's test cases. It
    affects all threads, as it changes the setting `BGTASKS_EAGER`.

    Args:
        propagate: whether the call raises what its task raises, after it is recorded.
    """
    return override_settings(BGTASKS_EAGER=True, BGTASKS_EAGER_PROPAGATES=propagate)


# --- what was enqueued


@dataclass(frozen=True)
class Enqueued:
    """A call that was enqueued.

    Attributes:
        id: the id of its row, and so of its result.
        name: the name of the task.
        args: the positional arguments.
        kwargs: the keyword arguments.
        queue: the name of the queue; None for the default one.
        priority: as the row has it.
        run_at: the time before which it does not run.
    """

    id: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    queue: str | None
    priority: int
    run_at: datetime

    def __str__(self) -> str:
        text = call_text(self.name, self.args, self.kwargs)
        queue = f", queue {self.queue}" if self.queue else ""
        later = f", for {self.run_at}" if self.run_at > timezone.now() else ""
        return f"{text}{queue}{later}"


def enqueued(task: Any = None, /, **filters: Any) -> list[Enqueued]:
    """The calls that wait in the queue, in the order in which they were enqueued.

    Args:
        task: the task whose calls are wanted, or its name; None for all tasks.
        filters: conditions that the rows must fulfil, as for Django's ``filter()``:
            ``queue="mail"``.

    Raises:
        LookupError: no task has that name.
    """
    rows = claims.free().filter(**filters)
    if task is not None:
        rows = rows.filter(task_name__in=_names(task))
    return [_enqueued(row) for row in rows.order_by("pk")]


def assert_enqueued(task: Any, /, *args: Any, times: int | None = 1, **kwargs: Any) -> Enqueued:
    """Fail unless a call of a task waits in the queue.

    Args:
        task: the task, or its name.
        args: the positional arguments of the call. Without `args` and `kwargs`, calls with any
            arguments count.
        times: how many such calls must wait; None: at least one.
        kwargs: the keyword arguments of the call.

    Returns:
        The call; the first of them if there are several.

    Raises:
        AssertionError: there are not so many such calls.
        LookupError: no task has that name.
        ValueError: `times` is below 1.
    """
    if times is not None and times < 1:
        raise ValueError("times is 1 or more. For none: assert_nothing_enqueued(task).")
    calls = enqueued(task)
    if args or kwargs:
        name = _names(task)[0]
        expected = codec.loads(enqueue.parameters(name, args, kwargs))
        calls = [call for call in calls if [list(call.args), call.kwargs] == expected]
    if calls and times in {len(calls), None}:
        return calls[0]
    wanted = call_text(_names(task)[0], args, kwargs) if args or kwargs else _names(task)[0]
    often = "once" if times == 1 else "at all" if times is None else f"{times} times"
    raise AssertionError(
        f"{wanted} was to be enqueued {often}, and is {len(calls) or 'not'}"
        f"{' times' if calls else ''}. {_listed(enqueued())}"
    )


def assert_nothing_enqueued(task: Any = None, /, **filters: Any) -> None:
    """Fail if a call waits in the queue.

    Args:
        task: the task whose calls count, or its name; None for all tasks.
        filters: conditions that the rows must fulfil to count, as for `enqueued`.

    Raises:
        AssertionError: there is such a call.
        LookupError: no task has that name.
    """
    if calls := enqueued(task, **filters):
        raise AssertionError(f"Nothing was to be enqueued. {_listed(calls)}")


@contextmanager
def capture() -> Iterator[list[Enqueued]]:
    """Collect the calls that are enqueued inside the block, by all threads.

    Calls that are rolled back, or that have been run meanwhile, are collected too: this lists all
    calls, while `enqueued` lists the rows that are in the queue.
    """
    calls: list[Enqueued] = []

    def note(task: Task, **_: Any) -> None:
        calls.append(_enqueued(task))

    signals.task_created.connect(note, weak=False)
    try:
        yield calls
    finally:
        signals.task_created.disconnect(note)


def _enqueued(row: Task) -> Enqueued:
    args, kwargs = arguments_of(row)
    return Enqueued(row.pk, row.task_name, tuple(args), kwargs, row.queue, row.priority, row.run_at)


def _names(task: Any) -> Sequence[str]:
    """The names by which rows may refer to a task.

    Raises:
        LookupError: this is no task, or neither a task nor a row has that name.
    """
    if not isinstance(task, str):
        # The `name` of a task of Django's own framework is that of the function, without module.
        names = [getattr(task, "module_path", None), getattr(task, "name", None)]
        if found := [name for name in names if isinstance(name, str)]:
            return found
        raise LookupError(f"{task!r} is no task. Give a task, or the name that its rows carry.")
    if task not in registry.names() and not claims.free().filter(task_name=task).exists():
        raise LookupError(
            f"No task is called {task!r}. Give the task itself, or the name that its rows carry: "
            "module.function, or what its decorator says."
        )
    return [task]


def _listed(calls: Sequence[Enqueued]) -> str:
    if not calls:
        return "The queue is empty."
    lines = [f"    {call}" for call in calls[:LISTED]]
    if len(calls) > LISTED:
        lines.append(f"    and {len(calls) - LISTED} more")
    return "\n".join(["In the queue:", *lines])
