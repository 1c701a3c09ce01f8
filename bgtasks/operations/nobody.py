"""A warning in the log of whoever enqueues while no worker runs."""

from __future__ import annotations

from django.core import mail
from django.db import transaction

from bgtasks import conf
from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.operations.unserved import COMMAND, serving
from bgtasks.queue import database as db

logger = get_logger(__name__)

# Seconds between two looks at the workers' table in one process.
EVERY = 60.0
_looked_at = -EVERY


def warn_on_commit(name: str) -> None:
    """Log a warning, once a minute at most, if a task was enqueued and no worker runs.

    The workers' table is read after the commit, so that no error of that can break a transaction.

    Args:
        name: the task's.
    """
    global _looked_at
    if elapsed() - _looked_at < EVERY or conf.eager() or hasattr(mail, "outbox"):
        return  # in a test, for which Django has made the outbox, no worker is expected
    _looked_at = elapsed()

    def look() -> None:
        if not serving():
            logger.warning("Task %s is enqueued, and no worker runs. Start `%s`.", name, COMMAND)

    transaction.on_commit(look, using=db.alias(), robust=True)
