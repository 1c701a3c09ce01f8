"""What we put in the place of django-background-tasks' own, all of it here.

Its classes stay, for projects import and subclass them; the methods named below are replaced on
them. Nothing else is touched.
"""

from __future__ import annotations

import functools
import os
import secrets
import socket
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from background_task import settings, signals
from background_task import tasks as upstream
from background_task.exceptions import BackgroundTaskError
from background_task.models import CompletedTask, Task, TaskManager
from django.conf import settings as project
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)
from django.utils import timezone

from bgtasks import calls, conf
from bgtasks.patches import creators
from bgtasks.queue import call_options, claims, enqueue, finish, notify, progress, repeat
from bgtasks.queue import creators as creators_table
from bgtasks.queue.database import OURS, alias, connection, remember
from bgtasks.queue.ending import Ending
from bgtasks.running import executor
from bgtasks.serialize import codec
from bgtasks.tasks import decorator, policies, registry
from bgtasks.tasks.current import CurrentTask

_installed = False


def install() -> None:
    """Replace the engine. Once; `AppConfig.ready` calls it."""
    global _installed
    if _installed:
        return
    _installed = True
    for owner, replacements in REPLACED.items():
        for name, value in replacements.items():
            setattr(owner, name, value)
    creators.install()
    upstream.tasks._bg_runner = run_in_process
    # They look after connections around every task, and under RUN_ASYNC close them by a
    # CONN_MAX_AGE that is meant for requests. `bgtasks.running.isolation` does what is needed.
    for signal in (signals.task_started, signals.task_finished):
        for receiver in (signals.reset_queries, signals.close_old_connections):
            signal.disconnect(receiver)
    # Declared before we were ready, by a models.py that imports its tasks.
    for proxy in upstream.tasks._tasks.values():
        functools.update_wrapper(proxy, proxy.task_function, updated=())


# --- settings


def _prefixed_max_attempts(self: Any) -> int:
    return conf.max_attempts()


def _prefixed_max_run_time(self: Any) -> float:
    return float(getattr(project, "BACKGROUND_TASK_MAX_RUN_TIME", self.MAX_RUN_TIME))


# --- TaskManager


def unlocked(manager: TaskManager, now: datetime) -> Any:
    return manager.get_queryset().exclude(locked_by__isnull=False, locked_at__gte=_expiry(now))


def locked(manager: TaskManager, now: datetime) -> Any:
    return manager.get_queryset().filter(locked_by__isnull=False, locked_at__gte=_expiry(now))


def _expiry(now: datetime) -> datetime:
    return now - timedelta(seconds=conf.stock_lock_time())


def find_available(manager: TaskManager, queue: str | None = None) -> Any:
    now = timezone.now()
    ready = manager.unlocked(now).filter(run_at__lte=now, failed_at=None)
    if queue:
        ready = ready.filter(queue=queue)
    sign = "" if conf.lowest_number_first() else "-"
    ready = ready.order_by(f"{sign}priority", "run_at")
    run_async = getattr(project, "BACKGROUND_TASK_RUN_ASYNC", False)
    return ready[: conf.threads()] if run_async else ready


def new_task(
    manager: TaskManager,
    task_name: str,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    run_at: datetime | None = None,
    priority: int = 0,
    queue: str | None = None,
    verbose_name: str | None = None,
    creator: Any = None,
    repeat: int | None = None,
    repeat_until: datetime | None = None,
    remove_existing_tasks: bool = False,
) -> Task:
    """A row that is not saved. With ``remove_existing_tasks``, waiting ones like it are deleted."""
    args = () if args is None else args
    params = enqueue.parameters(task_name, args, kwargs or {})
    row = Task(
        task_name=task_name,
        task_params=params,
        task_hash=enqueue.fingerprint(task_name, params),
        priority=priority,
        run_at=timezone.now() if run_at is None else run_at,
        queue=queue,
        verbose_name=verbose_name,
        creator=creator,
        repeat=calls.repeat_seconds(task_name, repeat),
        repeat_until=repeat_until,
    )
    if remove_existing_tasks:
        enqueue.waiting(row.task_hash, queue).delete()
    return row


# --- Task, CompletedTask


def lock(row: Task, locked_by: str) -> Task | None:
    """Lock a row that is due and free, as the database has it; a stale instance does not count."""
    return Task.objects.get(pk=row.pk) if claims.lock(row, locked_by) else None


def from_db(model: type[Task], /, using: str, names: Any, values: Any, **options: Any) -> Any:
    """An instance that remembers what the database had; see `save`."""
    row = super(Task, model).from_db(using, names, values, **options)
    remember(row)
    return row


def save(row: Task, *args: Any, **kwargs: Any) -> None:
    """Save; of a row that is in the database already, only what was changed on this instance.

    A stale instance, an admin page of a minute ago for example, neither unlocks a row that runs
    by now nor brings one back that is finished.

    Raises:
        DatabaseError: the row is gone.
    """
    row.locked_by = row.locked_by or None
    known = row.__dict__.get("_bgtasks_known")
    here = row.pk is not None and not row._state.adding and kwargs.get("using") in _homes(row)
    partly = bool(known and here and not any(args) and not _SPECIFIC & kwargs.keys())
    if partly:
        fields = row._meta.concrete_fields
        changed = [f.name for f in fields if _changed(row, known, f.attname)]
        # Nothing changed: the signals of a save are wanted all the same.
        kwargs["update_fields"] = changed or ["verbose_name"]
    try:
        _save_with_creator(row, *args, **kwargs)
    except DatabaseError as error:
        if partly and not Task.objects.filter(pk=row.pk).exists():
            raise DatabaseError(
                f"Task {row} (id {row.pk}) is not saved: it was finished or deleted meanwhile. "
                "Enqueue it again if it is still wanted."
            ) from error
        raise
    remember(row)
    if row.locked_by is None:
        notify.tell()


def _save_with_creator(row: Task, *args: Any, **kwargs: Any) -> None:
    creator = row.__dict__.get("_bgtasks_creator")
    if creator is None:
        super(Task, row).save(*args, **kwargs)
        return
    with transaction.atomic(using=kwargs.get("using") or alias()):
        super(Task, row).save(*args, **kwargs)
        creators_table.insert(row, creator)


def params(row: Task) -> tuple[Any, dict[str, Any]]:
    """The arguments of a row, as the function gets them."""
    return codec.load_call(row.task_params)


def get_task(manager: TaskManager, task_name: str, args: Any = None, kwargs: Any = None) -> Any:
    """The rows of one call, by its hash."""
    written = enqueue.parameters(task_name, args or (), kwargs or {})
    return manager.get_queryset().filter(task_hash=enqueue.fingerprint(task_name, written))


def has_reached_max_attempts(row: Task) -> bool:
    return bool(row.attempts >= policies.of(row.task_name).most_attempts)


_SPECIFIC = {"force_insert", "force_update", "update_fields"}


def _homes(row: Task) -> set[str | None]:
    return {None, row._state.db}


def _changed(row: Task, known: dict[str, Any], name: str) -> bool:
    return name in row.__dict__ and (name not in known or row.__dict__[name] != known[name])


def increment_attempts(row: Task) -> None:
    claims.count_attempt(row)


def reschedule(row: Task, kind: Any, err: BaseException, traceback: Any) -> None:
    """Record a failed attempt: back on the queue, or failed for good."""
    if row.locked_by:
        claims.count_attempt(row)
    else:
        claims.claim_row(row, upstream.tasks._runner.worker_name)
    finish.record_alone(executor.failed(row, err.with_traceback(traceback)))


def create_repetition(row: Task) -> Task | None:
    """The next run of a repeating row, saved; None if it does not repeat, or no longer."""
    return repeat.repeat(row)


def holder_is_running(row: Task | CompletedTask) -> bool | None:
    """Whether the worker that holds this row runs. None: nobody holds it, or nobody can tell.

    By the age of the lock, which our workers renew; a pid says nothing about another host, and
    on Windows asking after one ended the process.
    """
    if not row.locked_by:
        return None
    if isinstance(row, CompletedTask) or row.locked_at is None:
        return False
    if row.locked_by.isdigit():
        return None  # a stock worker's process, on whichever host
    ours = row.locked_by.startswith(OURS)
    limit = conf.lease() * 2 if ours else conf.stock_lock_time()
    return bool((timezone.now() - row.locked_at).total_seconds() < limit)


holder_is_running.boolean = True  # type: ignore[attr-defined]


# --- the runner: one row at a time, in this process


def worker_name(runner: Any) -> str:
    """Unique among hosts and processes, and a fork gets one of its own."""
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
    runner.__dict__["_bgtasks_own_name"] = name


def init_runner(runner: Any) -> None:
    """Nothing to keep: the worker's name is asked for when it is needed."""


def schedule_call(
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
    """Enqueue; returns the row that waits now, also where one waited already."""
    row = Task.objects.new_task(
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
        signals.task_created.send(sender=runner.__class__, task=row)
    return row


def get_task_to_run(runner: Any, registry: Any, queue: str | None = None) -> Task | None:
    """Claim the most urgent ready row; None if there is none, or no database."""
    try:
        claims.release_expired()
        queues = [queue] if queue else None
        rows = claims.claim(runner.worker_name, list(registry._tasks), 1, queues)
    except OperationalError as error:
        upstream.logger.warning("Failed to retrieve tasks. Database unreachable: %s", error)
        return None
    if not rows:
        return None
    rows[0]._bgtasks_counted = True
    return rows[0]


def run_in_process(proxy: Any, row: Task | None = None, *args: Any, **kwargs: Any) -> None:
    """Run a row here and record its ending; without a row, run the function with arguments.

    If a row waits for the same call, it is the one that is run, as ever.
    """
    if proxy.task_function is None:
        raise BackgroundTaskError("Function is None, can't execute!")
    counted = getattr(row, "_bgtasks_counted", False)
    if row is None:
        row = _waiting_row(proxy, args, kwargs)
        counted = row is not None
    elif not row.locked_by or row.locked_by.startswith(OURS):
        # Read a while ago: nobody's then, or another worker's.
        counted = claims.claim_row(row, upstream.tasks._runner.worker_name)
        if not counted:
            upstream.logger.warning("Not running %s (id %s): another worker has it.", row, row.pk)
            return
    if row is None:
        # Runs as a task does, and leaves no trace: there is no row to leave it on.
        params = enqueue.parameters(proxy.name, args, kwargs)
        executor.run(Task(task_name=proxy.name, task_params=params), proxy.task_function)
        return
    if not counted:
        claims.count_attempt(row)
    limit = call_options.load(row).get("timeout") or policies.of(proxy.name).limit
    task = CurrentTask(row, limit, progress.writer())
    _settle(executor.run(row, proxy.task_function, limit, task=task))


def _waiting_row(proxy: Any, args: Any, kwargs: Any) -> Task | None:
    params = enqueue.parameters(proxy.name, args, kwargs)
    waiting = enqueue.waiting(enqueue.fingerprint(proxy.name, params), proxy.queue)
    row: Task | None = waiting.order_by("pk").first()
    if row is not None and claims.claim_row(row, upstream.tasks._runner.worker_name):
        return row
    return None


def _settle(ending: Ending) -> None:
    """Record an ending, if need be when the database is back."""
    kept = None
    while kept is None:
        try:
            kept = finish.record_alone(ending)
        except (DataError, IntegrityError):
            raise
        except (DatabaseError, InterfaceError) as error:
            if connection().in_atomic_block:
                raise
            upstream.logger.warning(
                "The ending of %s waits for the database: %s", ending.row, error
            )
            connections.close_all()
            time.sleep(1)
    if not kept:
        upstream.logger.warning(
            "The ending of %s (id %s) is not recorded: another worker has it now.",
            ending.row,
            ending.row.pk,
        )


def run_task(registry: Any, task_name: Task | str, args: Any = None, kwargs: Any = None) -> None:
    """Run a row, or a task by its name, in this process and to its end."""
    if isinstance(task_name, Task):
        registry._bg_runner(registry._tasks[task_name.task_name], task_name)
    else:
        registry._bg_runner(registry._tasks[task_name], None, *(args or ()), **(kwargs or {}))


# Whose, and what: the whole of what we change.
REPLACED: dict[Any, dict[str, Any]] = {
    settings.AppSettings: {
        "BACKGROUND_TASK_MAX_ATTEMPTS": property(_prefixed_max_attempts),
        "BACKGROUND_TASK_MAX_RUN_TIME": property(_prefixed_max_run_time),
    },
    TaskManager: {
        "unlocked": unlocked,
        "locked": locked,
        "find_available": find_available,
        "new_task": new_task,
        "get_task": get_task,
    },
    Task: {
        "lock": lock,
        "from_db": classmethod(from_db),
        "save": save,
        "params": params,
        "has_reached_max_attempts": has_reached_max_attempts,
        "increment_attempts": increment_attempts,
        "reschedule": reschedule,
        "create_repetition": create_repetition,
        "locked_by_pid_running": holder_is_running,
    },
    CompletedTask: {"locked_by_pid_running": holder_is_running},
    upstream.DBTaskRunner: {
        "__init__": init_runner,
        "worker_name": property(worker_name, set_worker_name),
        "schedule": schedule_call,
        "get_task_to_run": get_task_to_run,
    },
    upstream.TaskProxy: {
        "__call__": lambda proxy, *args, **kwargs: calls.call(proxy, args, kwargs),
        "delay": calls.delay,
        "apply_async": calls.apply_async,
        "map": calls.call_each,
    },
    upstream.TaskSchedule: {"create": classmethod(calls.create_schedule)},
    upstream.Tasks: {"background": decorator.declare_as_ever, "run_task": run_task},
    upstream: {"autodiscover": registry.autodiscover, "bg_runner": run_in_process},
}
