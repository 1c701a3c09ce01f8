"""Enqueueing tasks at the times of their ``cron`` lines: a chore of every worker.

All workers do it for all tasks that they know, whatever queues they serve: who comes second finds
the slot taken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from background_task.tasks import TaskSchedule
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.queue import cron_slots as slots
from bgtasks.queue import database as db
from bgtasks.tasks import crontab, policies, registry

logger = logging.getLogger(__name__)

# Seconds between looks: the host's clock may have been changed, and the slots' table too.
LOOK = 60.0
# Seconds until a task is tried again that could not be enqueued.
RETRY = 5.0
# A slot that is enqueued later than this was missed.
LATE = timedelta(seconds=60)


class Cron:
    """The slots of all tasks that have a line."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Look at once."""
        self._look_at = 0.0
        self._next: datetime | None = None

    def due_in(self) -> float:
        """Seconds until something is to be done; not above 0 when it is."""
        look = self._look_at - elapsed()
        return look if self._next is None else min(look, (self._next - _now()).total_seconds())

    def run(self) -> bool:
        """Enqueue what is due, at once. See `run_in_steps`.

        Returns:
            Whether there are new rows.
        """
        return any(list(self.run_in_steps()))

    def run_in_steps(self) -> Iterator[bool]:
        """Enqueue what is due, one task each time that the caller asks for a step.

        Of the slots that were missed, the latest one is enqueued. An error with one task is logged
        and does not keep the others. Between two steps the caller may send a heartbeat.

        Yields:
            Whether a step has enqueued a row.

        Raises:
            DatabaseError: the database does not answer.
        """
        now = _now()
        lines = {name: text for name in registry.names() if (text := policies.of(name).cron)}
        last = slots.last_slots(lines) if lines else {}
        next_: list[datetime] = []
        wait = LOOK
        for name, text in lines.items():
            enqueued = False
            try:
                line = crontab.parse(text, name)
                enqueued = _see_to(line, last.get(name), now)
                next_.append(line.after(now))
            except Exception as error:  # of the row, of a receiver: the others are to go on
                if isinstance(error, DatabaseError | InterfaceError) and not _database_answers():
                    raise
                logger.exception("Task %s is not enqueued by its cron line.", name)
                wait = RETRY
            yield enqueued
        self._look_at = elapsed() + wait
        self._next = min(next_, default=None)


def _now() -> datetime:
    return datetime.now(UTC)


def _database_answers() -> bool:
    try:
        return bool(db.fetch("SELECT 1"))
    except (DatabaseError, InterfaceError):
        return False


def _see_to(line: crontab.Line, last: datetime | None, now: datetime) -> bool:
    """Enqueue a task's latest slot if that is still to be done; returns whether it was."""
    if last is None:
        slots.first_seen(line.name, now)
        return False
    if last > now + slots.TOO_FAR and slots.set_back(line.name):
        logger.warning(
            "Task %s was last enqueued for %s, in the future: a clock was wrong. Its cron line "
            "counts from now on.",
            line.name, last,
        )  # fmt: skip
        return False
    slot = line.latest(now)
    if slot <= last or not slots.enqueue_slot(line.name, slot, partial(_call, line.name, slot)):
        return False
    if now - slot > LATE:
        logger.warning(
            "Task %s was due at %s (cron %r) and no worker ran: it is made up for now. Earlier "
            "times are not.",
            line.name, slot, line.text,
        )  # fmt: skip
    return True


def _call(name: str, slot: datetime) -> None:
    """Enqueue as any other call does: its queue, its priority, and the signal."""
    local = None if settings.USE_TZ else timezone.get_default_timezone()
    run_at = timezone.make_naive(slot, local) if local else slot
    registry.find(name)(schedule=TaskSchedule(run_at=run_at))
