"""Eager mode: each task runs inside the call that enqueues it, which is for tests."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from background_task.models import Task
from django.utils import timezone

from bgtasks import conf
from bgtasks.operations import arguments
from bgtasks.queue import claims, enqueue
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import ClaimedRow, arguments_of
from bgtasks.running import inline
from bgtasks.running.run import claimed_here
from bgtasks.tasks import registry

# How often one row may run, or how many rows of a chain may. Above that it is taken to go on for
# ever.
LIMIT = 1000
# How many eager calls may be inside each other. That is well below Python's own limit of recursion.
DEEPEST = 25
# The claim that holds a row while it runs here.
CLAIM = f"{db.WORKER_PREFIX}testing.1-1"

_depth: ContextVar[int] = ContextVar("bgtasks_eager_depth", default=0)


def run_eagerly(row: Task | None) -> None:
    """Run a row that was just enqueued, and what follows it, unless it is for later.

    Args:
        row: nothing is done for None, or for the row of a task that is not known here.

    Raises:
        AssertionError: over `DEEPEST` eager calls are inside each other, or the row is tried again
            without end.
        BaseException: what the task raised, if BGTASKS_EAGER_PROPAGATES is on.
    """
    if row is None or row.task_name not in registry.names():
        return
    depth = _depth.get()
    if depth >= DEEPEST:
        raise AssertionError(
            f"{depth} tasks in eager mode enqueued each other, and the last one "
            f"{call_of(row)}. Does a task enqueue itself again and again?"
        )
    token = _depth.set(depth + 1)
    try:
        _run_until_later(row.pk)
    finally:
        _depth.reset(token)


def _run_until_later(task_id: int) -> None:
    for _ in range(LIMIT):
        # The row is read anew, as a worker would find it. The caller's instance is not changed.
        ready = claims.free().filter(pk=task_id, run_at__lte=timezone.now()).first()
        if ready is None or not claims.claim_row(ready, CLAIM):
            return
        claimed = claimed_here(ready)
        failure = inline.run(claimed)
        run_eagerly(_following(claimed))
        if failure and (conf.eager_propagates() or is_from_outside(failure)):
            raise failure
    raise AssertionError(f"{call_of(ready)} was run {LIMIT} times, and is not done.")


def _following(claimed: ClaimedRow) -> Task | None:
    """The row that was enqueued by this row's option ``then``; None if it has none."""
    row, name = claimed.row, claimed.options.get("then")
    if not name:
        return None
    task_hash = enqueue.fingerprint(name, enqueue.parameters(name, [row.pk], {}))
    following: Task | None = enqueue.waiting(task_hash, row.queue).first()
    return following


def is_from_outside(failure: BaseException) -> bool:
    """Whether a failure is not the task's own, because somebody pressed Ctrl-C."""
    return isinstance(failure, KeyboardInterrupt)


def call_text(name: str, args: Iterable[Any], kwargs: dict[str, Any]) -> str:
    """A call as a developer would write it."""
    return f"{name}({arguments.written(name, list(args), kwargs)})"


def call_of(row: Task) -> str:
    """The call that a row stands for, as a developer would write it."""
    return call_text(row.task_name, *arguments_of(row))
