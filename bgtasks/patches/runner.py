"""The replacements for methods of upstream's runner, which runs one row at a time in this process.

bgtasks itself does not use them. They are used by projects that have a runner of their own, and by
whoever calls upstream's ``tasks.run_next_task`` or ``tasks.run_task``.
"""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any
from weakref import WeakValueDictionary

from background_task import tasks as upstream
from background_task.exceptions import BackgroundTaskError
from background_task.models import Task
from django.db import OperationalError

from bgtasks.queue import claims, enqueue
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import ClaimedRow
from bgtasks.running import executor, without_worker
from bgtasks.running.run import Runs

# The rows that `get_task_to_run` has claimed and that upstream's code has not yet handed to
# `run_in_process`, by the `id()` of the instance. The claim has counted their attempt.
_counted: WeakValueDictionary[int, Task] = WeakValueDictionary()


def init_runner(runner: Any) -> None:
    """Replaces upstream's `__init__`, which sets the worker's name. See `worker_name`."""


def worker_name(runner: Any) -> str:
    """The name that the runner locks rows by. It is unique among hosts and processes.

    It is made when it is first read in a process, so that a forked process gets its own.
    """
    if own := runner.__dict__.get("_bgtasks_own_name"):
        return str(own)
    pid: int | None
    name: str
    pid, name = runner.__dict__.get("_bgtasks_name", (None, ""))
    if pid != os.getpid():
        name = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
        runner.__dict__["_bgtasks_name"] = os.getpid(), name
    return name


def set_worker_name(runner: Any, name: str) -> None:
    """Set a name instead of the one that `worker_name` makes."""
    runner.__dict__["_bgtasks_own_name"] = name


def get_task_to_run(runner: Any, registry: Any, queue: str | None = None) -> Task | None:
    """Claim the most urgent row that is ready. None if there is none or the database is away."""
    try:
        queues = [queue] if queue else None
        row = without_worker.claim_next(runner.worker_name, list(registry._tasks), queues)
    except OperationalError as error:
        upstream.logger.warning("Failed to retrieve tasks. Database unreachable: %s", error)
        return None
    if row is not None:
        _counted[id(row)] = row
    return row


def run_in_process(proxy: Any, row: Task | None = None, *args: Any, **kwargs: Any) -> None:
    """Run a row here and record its ending; without a row, run the task's function.

    If there is no row but one waits in the queue for the same call, that one is run, as upstream
    does it.

    Args:
        proxy: the task.
        row: its row, or None.
        args: the positional arguments, if there is no row.
        kwargs: the keyword arguments, if there is no row.

    Raises:
        BackgroundTaskError: the task has no function.
    """
    if proxy.task_function is None:
        raise BackgroundTaskError("Function is None, can't execute!")
    counted = row is not None and _counted.pop(id(row), None) is row
    if row is None:
        row = _waiting_row(proxy, args, kwargs)
        counted = row is not None
    elif not row.locked_by or row.locked_by.startswith(db.WORKER_PREFIX):
        # The instance may be old: when it was read, nobody held the row, or another worker did. So
        # the row has to be claimed now.
        counted = claims.claim_row(row, upstream.tasks._runner.worker_name)
        if not counted:
            upstream.logger.warning("Not running %s (id %s): another worker has it.", row, row.pk)
            return
    if row is None:
        # The function runs as a task does, with an instance that is never saved. Nothing is
        # recorded.
        params = enqueue.parameters(proxy.name, args, kwargs)
        row = Task(task_name=proxy.name, task_params=params)
        executor.run(Runs().of(ClaimedRow(row), proxy.task_function))
        return
    if not counted:
        claims.count_attempt(row)
    without_worker.run(row, proxy.task_function)


def _waiting_row(proxy: Any, args: Any, kwargs: Any) -> Task | None:
    """Claim the oldest row that waits in the queue for this call. None if there is none."""
    params = enqueue.parameters(proxy.name, args, kwargs)
    waiting = enqueue.waiting(enqueue.fingerprint(proxy.name, params), proxy.queue)
    row: Task | None = waiting.order_by("pk").first()
    if row is not None and claims.claim_row(row, upstream.tasks._runner.worker_name):
        return row
    return None


def run_task(registry: Any, task_name: Task | str, args: Any = None, kwargs: Any = None) -> None:
    """Run a row, or the task of that name with these arguments, in this process to its end."""
    if isinstance(task_name, Task):
        registry._bg_runner(registry._tasks[task_name.task_name], task_name)
    else:
        registry._bg_runner(registry._tasks[task_name], None, *(args or ()), **(kwargs or {}))
