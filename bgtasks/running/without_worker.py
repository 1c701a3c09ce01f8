"""Claims rows and runs them one at a time in this thread, for where no worker runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from background_task.models import Task
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connections

from bgtasks.logs import get_logger
from bgtasks.queue import claims, finish, progress
from bgtasks.queue import database as db
from bgtasks.queue.ending import Ending
from bgtasks.running import executor
from bgtasks.running.run import Run, Runs, claimed_here
from bgtasks.tasks import registry

logger = get_logger(__name__)


def run_next(token: str, queues: Sequence[str] | None = None) -> bool:
    """Claim the most urgent row that is ready, and run it to its end.

    Args:
        token: the value that the row's ``locked_by`` gets.
        queues: run only a row of these queues; None for all.

    Returns:
        Whether there was one.
    """
    row = claim_next(token, registry.names(), queues)
    if row is None:
        return False
    run(row, registry.find(row.task_name).task_function)
    return True


def claim_next(
    token: str, names: Collection[str], queues: Sequence[str] | None = None
) -> Task | None:
    """Claim the most urgent row that is ready; None if there is none. See `claims.claim`."""
    claims.release_expired()
    rows = claims.claim(token, names, 1, queues)
    return rows[0] if rows else None


def run(row: Task, function: Callable[..., Any]) -> None:
    """Run a row that was claimed and whose attempt is counted, and record how it ended.

    If the database is away at the end, this waits for it.

    Args:
        function: the task's function.
    """
    run = Runs(progress.Unattended()).of(claimed_here(row), function)
    ending = executor.run(run)
    _write_progress(run)
    if not _record(ending):
        logger.warning(
            "The ending of %s (id %s) is not recorded: another worker has it now.", row, row.pk
        )


def _write_progress(run: Run) -> None:
    """Write what the task reported last. If that cannot be done, its ending still counts."""
    try:
        progress.write([run.task])
    except DatabaseError:
        if db.connection().in_atomic_block:
            raise
        logger.exception("The progress of %s is not recorded.", run.claimed.row)


def _record(ending: Ending) -> bool:
    """Record an ending. Returns whether our claim still held the row."""
    while True:
        try:
            return finish.record_alone(ending)
        except (DataError, IntegrityError):
            raise
        except (DatabaseError, InterfaceError) as error:
            if db.connection().in_atomic_block:
                raise
            logger.warning("The ending of %s waits for the database: %s", ending.row, error)
            connections.close_all()
            time.sleep(1)
