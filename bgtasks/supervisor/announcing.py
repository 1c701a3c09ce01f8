"""What a worker says of itself in the log: what it serves, and what it waits for at its end."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

from background_task.models import Task
from django.db import DatabaseError, InterfaceError

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import database as db
from bgtasks.queue import pooler
from bgtasks.queue.listen import POLL_LATE, POLL_SOON
from bgtasks.tasks import registry
from bgtasks.worker.options import Options

logger = get_logger(__name__)

# The most running tasks that are named when the worker stops.
MOST_NAMED = 20


def ready(worker: str, options: Options) -> None:
    """Log that a worker is ready, and what it serves."""
    logger.info(
        "Worker %s (process %d) is ready. It serves %s. Processes: %d, threads: %d, coroutines: "
        "%d. Tasks known: %d.",
        worker,
        os.getpid(),
        f"the queues {', '.join(options.queues)}" if options.queues else "all queues",
        options.processes,
        options.threads,
        options.coroutines,
        len(registry.names()),
    )
    if not conf.listen_database() and _is_pooled():
        logger.info(
            "Between this worker and PostgreSQL there is a pooler, such as PgBouncer, through "
            "which LISTEN may not work. So the worker looks for new rows every %g to %g s. To be "
            "told of them at once, let BGTASKS_LISTEN_DATABASE name a direct connection in "
            "DATABASES.",
            POLL_SOON,
            POLL_LATE,
        )


def _is_pooled() -> bool:
    with suppress(DatabaseError, InterfaceError):  # it is away again
        return pooler.is_between()
    return False


def stopping(worker: str, running: Mapping[int, float], patience: float | None, hint: str) -> None:
    """Log that a worker is stopping, what it still runs, and how long it waits for that.

    Args:
        running: the ids of the running tasks, and when each began, by `bgtasks.clock.elapsed`.
        patience: the most seconds that it waits; None: as long as the tasks need.
        hint: what may end them sooner, as a sentence; empty if nothing does.
    """
    if not running:
        logger.info("Worker %s (process %d) is stopping. Nothing runs.", worker, os.getpid())
        return
    endless = patience is None or math.isinf(patience)
    logger.info(
        "Worker %s (process %d) is stopping. It waits for what still runs, %s: %s.%s",
        worker,
        os.getpid(),
        "as long as that takes" if endless else f"at most {patience:.3g} s",
        _list(running),
        hint and f" {hint}",
    )


def stopped(worker: str) -> None:
    """Log that a worker has stopped."""
    logger.info("Worker %s (process %d) is stopped.", worker, os.getpid())


def _list(running: Mapping[int, float]) -> str:
    """The running tasks by id and name, the oldest first, each with how long it has run."""
    oldest, now = sorted(running.items(), key=lambda each: each[1]), elapsed()
    names = _names(dict(islice(oldest, MOST_NAMED)))
    said = [
        f"{pk}{names.get(pk, '')} (for {now - began:.1f} s)" for pk, began in oldest[:MOST_NAMED]
    ]
    if len(oldest) > MOST_NAMED:
        said.append(f"and {len(oldest) - MOST_NAMED} more")
    return ", ".join(said)


def _names(ids: Mapping[int, float]) -> dict[int, str]:
    """The names of tasks, each after a space; none if the database does not answer."""
    rows = Task.objects.using(db.alias()).filter(pk__in=list(ids))
    try:
        return {pk: f" {name}" for pk, name in rows.values_list("pk", "task_name")}
    except (DatabaseError, InterfaceError):
        return {}
