"""The replacements for methods of upstream's models and their managers."""

from __future__ import annotations

from typing import Any

from background_task import tasks as upstream
from background_task.models import CompletedTask, Task, TaskManager
from django.conf import settings as project
from django.utils import timezone

from bgtasks import conf
from bgtasks.queue import claims, enqueue, finish
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import arguments_of
from bgtasks.queue.repeat import repeat
from bgtasks.running import executor
from bgtasks.tasks import policies


def unlocked(manager: TaskManager, now: Any) -> Any:
    """The rows that nobody has locked, or whose lock has expired."""
    return claims.unlocked(manager.get_queryset(), now)


def locked(manager: TaskManager, now: Any) -> Any:
    """The rows that somebody has locked, by a lock that has not expired."""
    return claims.locked(manager.get_queryset(), now)


def new_task(manager: TaskManager, *args: Any, **kwargs: Any) -> Task:
    """An instance for a call, which is not saved."""
    return enqueue.new_row(*args, **kwargs)


def get_task(manager: TaskManager, task_name: str, args: Any = None, kwargs: Any = None) -> Any:
    """The rows of a call: those with its hash."""
    written = enqueue.parameters(task_name, args or (), kwargs or {})
    return manager.get_queryset().filter(task_hash=enqueue.fingerprint(task_name, written))


def params(row: Task) -> tuple[Any, dict[str, Any]]:
    """The positional and the keyword arguments of a row, as its function gets them."""
    return arguments_of(row)


def find_available(manager: TaskManager, queue: str | None = None) -> Any:
    """The rows that are ready, the most urgent first; with upstream's threads, one for each."""
    now = timezone.now()
    ready = manager.unlocked(now).filter(run_at__lte=now, failed_at=None)
    if queue:
        ready = ready.filter(queue=queue)
    sign = "" if conf.lowest_number_first() else "-"
    ready = ready.order_by(f"{sign}priority", "run_at")
    run_async = getattr(project, "BACKGROUND_TASK_RUN_ASYNC", False)
    return ready[: conf.threads()] if run_async else ready


def lock(row: Task, locked_by: str) -> Task | None:
    """Lock a row if the database, and not only this instance, has it as due and free.

    Returns:
        The row as it is now; None if it was not locked.
    """
    return Task.objects.get(pk=row.pk) if claims.lock(row, locked_by) else None


def from_db(model: type[Task], /, using: str, names: Any, values: Any, **options: Any) -> Any:
    """An instance that remembers what the database had; see `bgtasks.queue.saving.save`."""
    row = super(Task, model).from_db(using, names, values, **options)
    db.remember(row)
    return row


def has_reached_max_attempts(row: Task) -> bool:
    return bool(row.attempts >= policies.of(row.task_name).most_attempts)


def increment_attempts(row: Task) -> None:
    claims.count_attempt(row)


def reschedule(row: Task, kind: Any, err: BaseException, traceback: Any) -> None:
    """Record a failed attempt: the row goes back into the queue, or it has failed for good."""
    if row.locked_by:
        claims.count_attempt(row)
    else:
        claims.claim_row(row, upstream.tasks._runner.worker_name)
    finish.record_alone(executor.failed(row, err.with_traceback(traceback)))


def create_repetition(row: Task) -> Task | None:
    """Enqueue the next run of a repeating row. Returns it, or None if there is none."""
    return repeat(row)


def holder_is_running(row: Task | CompletedTask) -> bool | None:
    """Whether the worker that holds this row runs; None if no worker holds it, or it is not known.

    The age of the lock decides, because our workers renew their locks. Upstream asked for the
    process with the pid in ``locked_by``. That says nothing about another host, and on Windows it
    ended the process.
    """
    if not row.locked_by:
        return None
    if isinstance(row, CompletedTask) or row.locked_at is None:
        return False
    if row.locked_by.isdigit():
        return None  # the pid of an upstream worker, which may run on any host
    ours = row.locked_by.startswith(db.WORKER_PREFIX)
    limit = conf.lease() * 2 if ours else conf.upstream_lock_time()
    return bool((timezone.now() - row.locked_at).total_seconds() < limit)


holder_is_running.boolean = True  # type: ignore[attr-defined]
