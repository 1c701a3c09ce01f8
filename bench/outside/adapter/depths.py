"""How long the queue is: one statement, made again and again by a thread of its own.

A database that is away or slow so delays no sample: what was seen last is told meanwhile.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass

from background_task.models import Task
from django.db import Error, connection
from django.db.models import Count, Q
from django.db.models.functions import Now

logger = logging.getLogger(__name__)

EVERY = 1.0  # second
FREE = Q(locked_by=None)
DUE = FREE & Q(run_at__lte=Now())
LATER = FREE & Q(run_at__gt=Now())


@dataclass(frozen=True)
class Depths:
    """Rows by what they wait for.

    Attributes:
        waiting: rows that are due, and that no worker has claimed.
        running: rows that a worker has claimed.
        retrying: rows that wait for another attempt.
        scheduled: rows whose first attempt is not due yet.
    """

    waiting: int = 0
    running: int = 0
    retrying: int = 0
    scheduled: int = 0

    @property
    def all(self) -> int:
        return self.waiting + self.running + self.retrying + self.scheduled


def count() -> Depths:
    """Count the rows.

    Raises:
        Error: of django.db, if the database is away.
    """
    found = Task.objects.aggregate(
        waiting=Count("pk", filter=DUE),
        running=Count("pk", filter=~FREE),
        retrying=Count("pk", filter=LATER & Q(attempts__gt=0)),
        scheduled=Count("pk", filter=LATER & Q(attempts=0)),
    )
    return Depths(**found)


def count_if_possible() -> Depths | None:
    """The same; None if the database is away, and a new connection the next time."""
    try:
        return count()
    except Error as error:
        logger.warning("The queue cannot be counted: %s", error)
        with suppress(Error):
            connection.close()
        return None


class Observer:
    """Counts the rows once a second.

    Attributes:
        latest: what it has counted last.
    """

    def __init__(self, stop: threading.Event) -> None:
        self.latest = Depths()
        self._stop = stop

    def run(self) -> None:
        while not self._stop.wait(EVERY):
            self.latest = count_if_possible() or self.latest
