"""Enqueues tasks at the times of their ``cron`` lines, which are called slots here.

Every worker does it for all tasks that it knows, whatever queues it serves. If two workers do it
for the same slot, the second one finds that the slot is taken, and enqueues nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from background_task.models import Task
from background_task.tasks import TaskSchedule
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from bgtasks.clock import elapsed
from bgtasks.logs import get_logger
from bgtasks.queue import cron_slots as slots
from bgtasks.queue import database as db
from bgtasks.tasks import crontab, policies, registry

logger = get_logger(__name__)

# The most seconds between two reads of the slots' table. Meanwhile another worker may have changed
# the table, or somebody the host's clock.
LOOK_EVERY = 60.0
# Seconds until the next try if a task could not be enqueued.
RETRY_AFTER = 5.0
# If a slot is enqueued later than this, no worker ran at its time, and a warning says so.
LATE = timedelta(seconds=60)


class Cron:
    """Enqueues all tasks that have a ``cron`` line when they are due."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make the next `run` due at once."""
        self._look_at = 0.0
        self._next: datetime | None = None

    def due_in(self) -> float:
        """Seconds until `run` is due; 0 or less if it is due now."""
        look = self._look_at - elapsed()
        return look if self._next is None else min(look, (self._next - _now()).total_seconds())

    def run(self) -> bool:
        """Enqueue all tasks that are due, without pauses. See `run_in_steps`.

        Returns:
            Whether there are new rows.
        """
        return any(list(self.run_in_steps()))

    def run_in_steps(self) -> Iterator[bool]:
        """Enqueue the tasks that are due, one task for each step.

        If a task has missed several slots, only the latest one is enqueued. If a task cannot be
        enqueued, that is logged, and the others follow. Between two steps the caller may send a
        heartbeat.

        Yields:
            Whether the step has enqueued a row.

        Raises:
            DatabaseError: the database does not answer.
        """
        now = _now()
        lines = {name: text for name in registry.names() if (text := policies.of(name).cron)}
        last = slots.last_slots(lines) if lines else {}
        next_: list[datetime] = []
        wait = LOOK_EVERY
        for name, text in lines.items():
            enqueued = False
            try:
                line = crontab.parse(text, name)
                enqueued = _see_to(line, last.get(name), now)
                next_.append(line.after(now))
            except Exception as error:  # also what a receiver raises; other tasks must not suffer
                if isinstance(error, DatabaseError | InterfaceError) and not _database_answers():
                    raise
                logger.exception("Task %s is not enqueued by its cron line.", name)
                wait = RETRY_AFTER
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
    """Enqueue a task for its latest slot, unless that was done before.

    Args:
        last: the slot for which it was enqueued last, by any worker; None if this task is new.

    Returns:
        Whether it was enqueued now.
    """
    if last is None:
        slots.first_seen(line.name, now)
        return False
    if last > now + slots.TOO_FAR and slots.set_back(line.name):
        if last == slots.UNREADABLE:
            problem = "The stored slot of task %s cannot be read%.0s."
        else:
            problem = "Task %s was last enqueued for %s, in the future: a clock was wrong."
        logger.warning(f"{problem} Its cron line counts from now on.", line.name, last)
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


def _call(name: str, slot: datetime) -> Task:
    """Enqueue a task as any call of it does: with its queue, its priority and the signal."""
    local = None if settings.USE_TZ else timezone.get_default_timezone()
    run_at = timezone.make_naive(slot, local) if local else slot
    row: Task = registry.find(name)(schedule=TaskSchedule(run_at=run_at))
    return row
