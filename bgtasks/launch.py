"""Starts the worker: checks what it needs, and chooses whether it forks children."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain

from django.apps import apps
from django.core.checks import CheckMessage
from django.db import DatabaseError, connections
from django.utils import autoreload

from bgtasks import checks
from bgtasks.engines import setting
from bgtasks.engines.relay import Relays
from bgtasks.exceptions import GreenThreads, NotMigrated, TaskModuleError
from bgtasks.logs import get_logger
from bgtasks.queue import patience
from bgtasks.queue.database import alias, columns_of, connection
from bgtasks.running import copies
from bgtasks.supervisor import in_process, one_by_one
from bgtasks.tasks import registry
from bgtasks.worker.options import Options

logger = get_logger(__name__)


def launch(options: Options, fork: bool = True) -> None:
    """Import the tasks and run the worker until it ends, with children if they can work here.

    Args:
        options: the options of ``process_tasks``.
        fork: whether children may be forked.

    Raises:
        NotMigrated: the tables are not there.
        GreenThreads: a task is a coroutine, and gevent or eventlet has replaced the threads here.
        MetricsMissing, CannotServe: it cannot do what the options for operators say.
    """
    for error in registry.import_task_modules():
        logger.error("%s", error, exc_info=error.__cause__)
        if not fork:
            _watch(error)
    _require_threads()
    patience.break_dead_connections()
    require_tables()
    with _metrics(options, fork):
        _run(options, fork)


def _metrics(options: Options, fork: bool) -> AbstractContextManager[None]:
    """Within this context the metrics are served, if the options say so.

    Raises:
        MetricsMissing: the package for that is not installed.
        CannotServe: the port is in use, or cannot be listened on.
    """
    if options.metrics is None:
        return nullcontext()
    # It needs a package that is not always there.
    from bgtasks.metrics.server import serving

    return serving(*options.metrics, fork=fork and not in_process.cannot_fork())


def _run(options: Options, fork: bool) -> None:
    _warn(checks.atomic_tasks_hold_nobody_up(), checks.atomic_tasks_have_one_database())
    if reason := one_by_one.cannot_share():
        note = logger.warning if one_by_one.custom_runner() else logger.debug
        note("Running one task after another in this process: %s.", reason)
        _run_here(one_by_one.OneByOne(options))
        return
    if engine := setting.engine():
        logger.info(
            "Sending the rows that are due to %s, whose workers run them.",
            engine.name,
        )
        _run_here(Relays(engine, options))
        return
    _warn(checks.connections_suffice(databases=[alias()], options=options))
    reason = in_process.cannot_fork() if fork else "it reloads when code changes"
    if reason:
        logger.info("Running tasks in this process: %s.", reason)
        _run_here(in_process.InProcess(options))
        return
    from bgtasks.supervisor.supervisor import Supervisor

    Supervisor(options).run()


def _warn(*found: Sequence[CheckMessage]) -> None:
    """Say what checks have found: the worker knows more than they did in ``manage.py check``."""
    for warning in chain(*found):
        logger.warning("%s %s", warning.msg, warning.hint)


def _watch(error: TaskModuleError) -> None:
    """Have the reloader watch the files in which an import has failed.

    It watches imported modules, and these are none.
    """

    def fail() -> None:
        raise error.__cause__ or error

    with suppress(Exception):
        autoreload.check_errors(fail)()


def _require_threads() -> None:
    """Check that the event loop of coroutines can have a thread of its own, if there are any.

    Raises:
        GreenThreads: it cannot.
    """
    coroutines = [name for name in registry.names() if registry.is_coroutine(name)]
    if coroutines and (library := _patched_by()):
        raise GreenThreads(
            f"{library} has replaced the threads of this process, and the event loop of "
            f"`async def` tasks cannot run beside that. {coroutines[0]} is such a task. Do not "
            f"call the monkey patching of {library} in the worker: with --threads, and with "
            "coroutines, it runs as many tasks at a time without that."
        )


def _patched_by() -> str:
    """The library that has replaced Python's threads by green ones; an empty text if none has."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return ""


def require_tables() -> None:
    """Check that the database is migrated.

    If it cannot be reached, this only logs that: the worker will wait for it.

    Raises:
        NotMigrated: it is not.
    """
    try:
        missing = _missing()
    except DatabaseError as error:
        logger.warning("The database does not answer yet: %s", error)
        connections.close_all()
        return
    if missing:
        raise NotMigrated(
            f"The database {alias()} has no {missing}. "
            "Run `manage.py migrate`, then start the worker again."
        )


def _missing() -> str:
    """A table of ours, or a column of one, that the database does not have; "" if it has all."""
    names = connection().introspection.table_names()
    for model in apps.get_app_config("bgtasks").get_models():
        if (table := model._meta.db_table) not in names:
            return f"table {table}"
        there = columns_of(table)
        for field in model._meta.concrete_fields:
            if field.column not in there:
                return f"column {field.column} in table {table}"
    return ""


def _run_here(runner: one_by_one.OneByOne | in_process.InProcess | Relays) -> None:
    """Run in this process. SIGTERM, SIGINT and SIGTSTP stop it after the task that runs.

    In another thread than the main one, Python allows no signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        runner.run()
        return
    names = ("SIGTERM", "SIGINT", "SIGTSTP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, runner.stop) for number in numbers}

    def restore_ours() -> None:
        """In a copy that a task has forked, undo our handlers, but not those of tasks."""
        for number, handler in before.items():
            if signal.getsignal(number) == runner.stop:
                signal.signal(number, handler)

    try:
        with copies.abandoning(restore_ours):
            runner.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
