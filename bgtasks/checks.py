"""The checks of ``manage.py check``: they find mistakes before a worker or a visitor does.

The page docs/reference.md lists them by their ids.
"""

from __future__ import annotations

import sqlite3
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from background_task.models import CompletedTask, Task
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError, connections, router

from bgtasks import conf
from bgtasks.operations.unserved import unserved
from bgtasks.queue import partitions
from bgtasks.queue.database import alias, connection, in_memory, last_id, lock_timeout
from bgtasks.tasks import policies, registry
from bgtasks.worker.options import Options

PSYCOPG_POOL = 4  # the connections of psycopg's pool, unless it is told another number
NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "lustre")
INT4 = 2**31 - 1
QUEUED_MAIL = "bgtasks.mail.BackgroundEmailBackend"


def register_all() -> None:
    """Register all checks with Django."""
    register(apps_in_order)
    register(database_supported)
    register(settings_make_sense)
    register(sqlite_file)
    register(mails_can_be_sent)
    register(history_can_be_partitioned)
    register(traces_can_be_made)
    register(transactions_are_shared)
    register(atomic_tasks_hold_nobody_up)
    register(atomic_tasks_have_one_database)
    register(django_tasks_are_queued)
    register(not_eager, deploy=True)
    register(connections_suffice, Tags.database)
    register(ids_last, Tags.database)
    register(rows_are_run, Tags.database)


def apps_in_order(**kwargs: Any) -> list[CheckMessage]:
    """bgtasks must stand before upstream: Django takes a command from the first app that has it."""
    order = [app.name for app in apps.get_app_configs()]
    if order.index("bgtasks") < order.index("background_task"):
        return []
    return [
        Error(
            "background_task stands before bgtasks in INSTALLED_APPS, so `process_tasks` is the "
            "worker of django-background-tasks and not ours.",
            hint='Write "bgtasks", "background_task" in this order.',
            id="bgtasks.E001",
        )
    ]


def database_supported(**kwargs: Any) -> list[CheckMessage]:
    """The task tables must be in PostgreSQL, or in a SQLite that knows RETURNING."""
    vendor = connection().vendor
    if vendor == "postgresql":
        return []
    if vendor == "sqlite":
        version = sqlite3.sqlite_version_info
        if version >= (3, 35):
            return []
        found = f"SQLite {'.'.join(map(str, version))}"
    else:
        found = vendor
    return [
        Error(
            f"The task tables are in {found}, with which the worker cannot work.",
            hint="It needs PostgreSQL 14 or newer, or SQLite 3.35 or newer.",
            id="bgtasks.E002",
        )
    ]


def settings_make_sense(**kwargs: Any) -> list[CheckMessage]:
    """Settings of bgtasks must be numbers and timedeltas, within their limits."""
    wrong = []
    readers: tuple[tuple[str, Callable[[], float], float], ...] = (
        ("BGTASKS_LEASE", conf.lease, 1),
        ("BGTASKS_GRACE", conf.grace, 0),
        ("BGTASKS_COROUTINES", conf.coroutines, 1),
        ("MAX_ATTEMPTS", conf.max_attempts, 1),
        ("BACKGROUND_TASK_ASYNC_THREADS", conf.threads, 1),
        ("MAX_RUN_TIME", conf.upstream_lock_time, 0.001),
    )
    for name, read, lowest in readers:
        try:
            value = read()
            if value < lowest:
                wrong.append(f"{name} is {value}, and must be {lowest} or more.")
        except (TypeError, ValueError) as error:
            wrong.append(f"{name} is no number: {error}.")
    if unknown := conf.retention().keys() - conf.RETENTION.keys():
        wrong.append(
            f"BGTASKS_RETENTION names {', '.join(sorted(unknown))}; the states are "
            f"{', '.join(conf.RETENTION)}."
        )
    if [age for age in conf.retention().values() if not isinstance(age, timedelta | None)]:
        wrong.append("BGTASKS_RETENTION holds something that is neither a timedelta nor None.")
    if (direct := conf.listen_database()) and direct not in connections:
        wrong.append(f"BGTASKS_LISTEN_DATABASE is {direct!r}, which is not in DATABASES.")
    hint = "Leave the setting out for its default."
    return [Error(text, hint=hint, id="bgtasks.E003") for text in wrong]


def history_can_be_partitioned(**kwargs: Any) -> list[CheckMessage]:
    """The history is partitioned if that is asked for."""
    if not conf.partition_history() or settings_make_sense():
        return []
    if not (reason := partitions.obstacle()):
        return []
    return [
        CheckWarning(
            f"BGTASKS_PARTITION_HISTORY has no effect, because {reason}.",
            hint="Remove the foreign key, keep tasks for at least a day, or remove the setting. "
            "Until then tasks that succeed are written to the main tables.",
            id="bgtasks.W009",
        )
    ]


def traces_can_be_made(**kwargs: Any) -> list[CheckMessage]:
    """Traces need the package opentelemetry-api."""
    if not conf.traces() or find_spec("opentelemetry") is not None:
        return []
    return [
        Error(
            "BGTASKS_TRACES is on, and the package opentelemetry-api is not installed, so that "
            "nothing can be enqueued.",
            hint="pip install 'django-bgtasks[traces]'",
            id="bgtasks.E006",
        )
    ]


def transactions_are_shared(**kwargs: Any) -> list[CheckMessage]:
    """A task commits with what the project writes only if both are in one database."""
    ours = {"bgtasks", "background_task"}
    others = {
        router.db_for_write(model)
        for model in apps.get_models()
        if model._meta.app_label not in ours and model._meta.managed
    }
    if not others or alias() in others:
        return []
    return [
        CheckWarning(
            f"The task tables have the database {alias()} to themselves: a task that is enqueued "
            "in a transaction of another database stays if that is rolled back, and may run before "
            "it commits.",
            hint="Enqueue when that transaction has committed: transaction.on_commit(lambda: "
            "task(...)). If the process dies in between, the task is lost. Or keep the task tables "
            "with the others. If you know this, put the id into SILENCED_SYSTEM_CHECKS.",
            id="bgtasks.W006",
        )
    ]


def mails_can_be_sent(**kwargs: Any) -> list[CheckMessage]:
    """If mails go through the queue, the worker must be able to encrypt them and to send them."""
    mailers = getattr(settings, "MAILERS", None) or {}
    named = [mailer.get("BACKEND") for mailer in mailers.values()]
    with warnings.catch_warnings():
        # Django 6.1 warns of EMAIL_BACKEND, which is deprecated. Reading it is no reason to warn.
        warnings.simplefilter("ignore")
        used = named or [getattr(settings, "EMAIL_BACKEND", None)]
    if QUEUED_MAIL not in used:
        return []
    messages: list[CheckMessage] = []
    if find_spec("cryptography") is None:
        messages.append(
            Error(
                "Mails are to go through the queue, encrypted, and the package cryptography is "
                "not installed.",
                hint="pip install cryptography",
                id="bgtasks.E004",
            )
        )
    if not named and conf.mail_backend() == QUEUED_MAIL:
        messages.append(
            Error(
                f"BGTASKS_EMAIL_BACKEND is {QUEUED_MAIL} itself: each mail would be queued again "
                "and again.",
                hint="Name there a backend that really sends.",
                id="bgtasks.E005",
            )
        )
    return messages


def not_eager(**kwargs: Any) -> list[CheckMessage]:
    """Production must not run tasks inside requests; checked with ``--deploy`` only."""
    if not conf.eager():
        return []
    return [
        CheckWarning(
            "BGTASKS_EAGER is on: each call runs its task, so that pages wait for slow work.",
            hint="Set it in the settings of the tests only.",
            id="bgtasks.W005",
        )
    ]


def django_tasks_are_queued(**kwargs: Any) -> list[CheckMessage]:
    """Tasks of Django's own ``@task`` have a backend that was chosen.

    The one that they have without the setting TASKS runs each of them inside ``enqueue()``.
    """
    frameworks = ("django.tasks.base", "django_tasks.base")
    kinds = tuple(sys.modules[name].Task for name in frameworks if name in sys.modules)
    if settings.is_overridden("TASKS"):  # type: ignore[misc]
        return []
    modules = [sys.modules.get(f"{app.name}.tasks") for app in apps.get_app_configs()]
    values = [value for module in modules if module for value in vars(module).values()]
    names = sorted({value.module_path for value in values if isinstance(value, kinds)})
    if not names:
        return []
    return [
        CheckWarning(
            f"There is no setting TASKS, so that Django runs {', '.join(names)} inside the call "
            "of enqueue(): whoever calls it waits, and no worker sees it.",
            hint='TASKS = {"default": {"BACKEND": "bgtasks.dialects.django_tasks.DatabaseBackend"}}'
            " has the workers run them. To keep it so, name Django's ImmediateBackend there.",
            id="bgtasks.W008",
        )
    ]


def atomic_tasks_hold_nobody_up(**kwargs: Any) -> list[CheckMessage]:
    """On SQLite no atomic task may hold the write lock for longer than others wait for it."""
    database = connection()
    if database.vendor != "sqlite":
        return []
    patience = lock_timeout(database)
    return [
        CheckWarning(
            f"Task {name} is atomic and may run for {limit:g} s. As long as it runs, nobody else "
            f"can write to this SQLite database: others wait for {patience:g} s, and then raise "
            '"database is locked".',
            hint="Lower its timeout (by default that is MAX_RUN_TIME), let another task do what "
            "takes long, or use PostgreSQL.",
            id="bgtasks.W010",
        )
        for name in _atomic_tasks()
        if (limit := policies.of(name).limit) is not None and limit > patience
    ]


def atomic_tasks_have_one_database(**kwargs: Any) -> list[CheckMessage]:
    """What an atomic task writes is in the database of the queue, which has the transaction."""
    apart = transactions_are_shared()
    return [
        CheckWarning(
            f"Task {name} is atomic, and no table of the project is in the database {alias()}, "
            "that of the queue: what it writes is not part of its transaction.",
            hint="Keep the task tables with the others, or leave out atomic=True.",
            id="bgtasks.W011",
        )
        for name in (_atomic_tasks() if apart else [])
    ]


def _atomic_tasks() -> list[str]:
    return [name for name in registry.names() if policies.of(name).atomic]


def sqlite_file(**kwargs: Any) -> list[CheckMessage]:
    """SQLite's file must be one that other processes can see, and on a disk whose locks hold."""
    database = connection()
    if database.vendor != "sqlite":
        return []
    if in_memory(database):
        return [
            CheckWarning(
                "The task tables are in this process's memory: no worker process can see them.",
                hint="Name a file in DATABASES, for example BASE_DIR / 'db.sqlite3'.",
                id="bgtasks.W001",
            )
        ]
    path = Path(str(database.settings_dict["NAME"])).resolve()
    if kind := network_filesystem(path):
        return [
            CheckWarning(
                f"The database {path} is on a network file system ({kind}), where SQLite's locks "
                "do not hold: rows may be run twice, or the file damaged.",
                hint="Put it on a local disk, or use PostgreSQL.",
                id="bgtasks.W002",
            )
        ]
    return []


def network_filesystem(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of network file system that a path is on; empty if it is local or unknown."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    found = {}
    for line in lines:
        _, place, kind, *_ = line.split()
        place = place.replace("\\040", " ")
        if path.is_relative_to(place):
            found[len(place)] = kind
    kind = found[max(found)] if found else ""
    return kind if kind.startswith(NETWORK_FILESYSTEMS) else ""


def connections_suffice(
    databases: Any = None, options: Options | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """A worker needs no more connections than PostgreSQL, or the pool, allows.

    It needs one for the supervisor, and for each child one for each thread, one for the keeper, and
    one for all coroutines if the project has tasks that are coroutines.

    Args:
        databases: the aliases that may be asked; without ours nothing is checked.
        options: the worker's; None for those of ``process_tasks`` without arguments.
    """
    if alias() not in (databases or []) or connection().vendor != "postgresql":
        return []
    options = options or Options(threads=conf.threads())
    coroutines = any(map(registry.is_coroutine, registry.names()))
    in_each = options.threads + 1 + coroutines
    needed = options.processes * in_each + 1
    try:
        with connection().cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('max_connections')::int "
                "- current_setting('superuser_reserved_connections')::int"
            )
            available = cursor.fetchone()[0]
    except DatabaseError:
        return []
    pool = _pool_size()
    if needed <= available and (pool is None or in_each <= pool):
        return []
    if needed > available:
        many = f"{needed} connections to the database; {available} can be had"
    else:
        many = f"{in_each} connections in each process; Django's pool has {pool}"
    return [
        CheckWarning(
            f"A worker with {options.processes} processes of {options.threads} threads needs "
            f"{many}.",
            hint="Lower BACKGROUND_TASK_ASYNC_THREADS or --threads, or raise the pool's max_size "
            "or PostgreSQL's max_connections.",
            id="bgtasks.W003",
        )
    ]


def _pool_size() -> int | None:
    """How many connections Django's pool has in each process; None without a pool."""
    pool = connections[alias()].settings_dict.get("OPTIONS", {}).get("pool")
    if not pool:
        return None
    given = pool if isinstance(pool, dict) else {}
    return given.get("max_size") or given.get("min_size") or PSYCOPG_POOL


def ids_last(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Of the ids of the task tables, at most half are used up.

    They are of PostgreSQL's type int4, so there are 2,147,483,647 of them. At a million tasks a day
    a table uses them up in six years.
    """
    if alias() not in (databases or []) or connection().vendor != "postgresql":
        return []
    messages: list[CheckMessage] = []
    for model in (Task, CompletedTask):
        table = model._meta.db_table
        try:
            with connection().cursor() as cursor:
                sql, params = last_id(table)
                cursor.execute(f"SELECT {sql}", params)
                (used,) = cursor.fetchone() or (None,)
        except DatabaseError:
            continue  # not migrated yet
        if used and used > INT4 // 2:
            messages.append(
                CheckWarning(
                    f"{used / INT4:.0%} of the ids of table {table} are used up.",
                    hint=f"Change its column: ALTER TABLE {table} ALTER COLUMN id TYPE bigint, and "
                    "its sequence AS bigint. That locks the table for a while.",
                    id="bgtasks.W004",
                )
            )
    return messages


def rows_are_run(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """What waits in the queue is run by somebody."""
    if alias() not in (databases or []):
        return []
    try:
        return [
            CheckWarning(each.reason, hint=each.remedy, id="bgtasks.W007") for each in unserved()
        ]
    except DatabaseError:
        return []  # not migrated yet
