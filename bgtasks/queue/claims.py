"""Taking rows, confirming that they are still ours, and handing them back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from background_task.models import Task
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from bgtasks import conf
from bgtasks.queue import call_options, notify
from bgtasks.queue import database as db
from bgtasks.queue.frontier import Frontier

# How a lost run's story begins. A row that bears it is started with no other beside it, so
# that a task which kills its worker costs no neighbour a second attempt.
LOST = "Lost: "
# A row that must run alone and cannot here comes back to the queue after this long.
SUSPECTS_WAIT = timedelta(seconds=1)
# How many rows are looked through for tasks that this process does not know.
UNKNOWN_AMONG = 10_000


@dataclass(frozen=True)
class Claimant:
    """Who claims: a child of a worker.

    ``locked_by`` is ``<worker>.<child>-<number>``. The number makes every claim another one,
    so that a row which was lost and claimed again is not taken for the one that was held.
    """

    worker: str
    child: int

    @property
    def prefix(self) -> str:
        return f"{self.worker}.{self.child}-"

    def claim(self, number: int) -> str:
        return f"{self.prefix}{number}"


def claim(
    token: str,
    names: Collection[str],
    limit: int,
    queues: Sequence[str] | None = None,
    worker: str | None = None,
) -> list[Task]:
    """Take up to ``limit`` ready rows, the most urgent first.

    For one claim; who claims again and again keeps a `Frontier`.

    Args:
        token: what ``locked_by`` becomes.
        names: the tasks that this process knows; others wait for a worker that does.
        queues: only rows of these queues; None for all.
        worker: claim only while this worker stands in the workers' table.
    """
    return [claimed.row for claimed in Frontier(names, queues, worker).take(token, limit)]


def claim_row(row: Task, token: str) -> bool:
    """Take one row whatever its schedule, unless somebody holds it. Counts the attempt."""
    taken = db.execute(
        f"UPDATE {db.TASKS} SET locked_by = %s, locked_at = {db.clock()}, "
        "attempts = attempts + 1 WHERE id = %s AND locked_by IS NULL AND failed_at IS NULL",
        [token, row.pk],
    )
    if taken:
        row.locked_by = token
        row.attempts += 1
    return bool(taken)


def take_over(row: Task, token: str, claim: str | None) -> str | None:
    """Take a row from whoever holds it by a claim, without counting an attempt.

    Args:
        claim: by which it must be held; None: nobody may hold it.

    Returns:
        The claim that it was taken from, empty if none; None if it is held otherwise.
    """
    held = "locked_by = %s" if claim else "locked_by IS NULL"
    taken = db.execute(
        f"UPDATE {db.TASKS} SET locked_by = %s, locked_at = {db.clock()} WHERE id = %s AND {held}",
        [token, row.pk, *([claim] if claim else [])],
    )
    if not taken:
        return None
    row.locked_by = token
    return claim or ""


def unlocked(rows: QuerySet[Task], now: datetime) -> QuerySet[Task]:
    """Those that nobody holds, or held by a lock that has expired."""
    return rows.exclude(locked_by__isnull=False, locked_at__gte=_expiry(now))


def locked(rows: QuerySet[Task], now: datetime) -> QuerySet[Task]:
    """Those that somebody holds by a lock that has not expired."""
    return rows.filter(locked_by__isnull=False, locked_at__gte=_expiry(now))


def _expiry(now: datetime) -> datetime:
    return now - timedelta(seconds=conf.upstream_lock_time())


def lock(row: Task, token: str) -> bool:
    """Lock a row that is due and free or whose lock has expired, without counting an attempt."""
    now = timezone.now()
    free = unlocked(Task.objects.get_queryset(), now).filter(
        pk=row.pk, run_at__lte=now, failed_at=None
    )
    return bool(free.update(locked_by=token, locked_at=now))


def count_attempt(row: Task) -> None:
    """Count an attempt of a row that was locked, not claimed: locking does not count."""
    db.execute(f"UPDATE {db.TASKS} SET attempts = attempts + 1 WHERE id = %s", [row.pk])
    row.attempts += 1


def confirm(row: Task) -> bool:
    """Whether a row is still in our hands."""
    sql = f"SELECT 1 FROM {db.TASKS} WHERE id = %s AND locked_by = %s"
    return bool(db.fetch(sql, [row.pk, row.locked_by]))


def release(rows: Sequence[Task], delay: timedelta | None = None) -> int:
    """Hand rows back that were never started. The attempt that the claim counted is refunded.

    Args:
        delay: they are not ready again before so long.

    Returns:
        How many were still ours.
    """
    if not rows:
        return 0
    given, params = db.given(rows)
    changes = "locked_by = NULL, locked_at = NULL, attempts = attempts - 1"
    if delay:
        for row in rows:
            call_options.keep_slot(row)
        changes = f"{changes}, run_at = %s"
        params = [db.moment(timezone.now() + delay), *params]
    released = db.execute(
        f"UPDATE {db.TASKS} SET {changes} FROM {given} "
        f"WHERE {db.TASKS}.id = given.id AND {db.is_held_as_given()}",
        params,
    )
    if released:
        notify.notify_workers()
    return released


def release_unknown(prefix: str, known: Collection[int]) -> int:
    """Hand back what is held by claims that begin with a prefix and is not among ``known``.

    Returns:
        How many rows.
    """
    where, params = db.held_by(prefix)
    found = db.fetch(f"SELECT id, locked_by FROM {db.TASKS} WHERE {where}", params)
    return release([Task(pk=pk, locked_by=token) for pk, token in found if pk not in known])


def release_expired() -> int:
    """Free rows that a worker other than ours locked and left, as django-background-tasks does.

    Such locks carry no lease, so their age decides: `MAX_RUN_TIME`, an hour by default.
    """
    ours, params = db.held_by(db.WORKER_PREFIX)
    expired = timezone.now() - timedelta(seconds=conf.upstream_lock_time())
    return db.execute(
        f"UPDATE {db.TASKS} SET locked_by = NULL, locked_at = NULL "
        f"WHERE locked_by IS NOT NULL AND locked_at < %s AND NOT ({ours})",
        [db.moment(expired), *params],
    )


def free() -> QuerySet[Task]:
    """Rows that nobody holds, whether they are due or not."""
    rows: QuerySet[Task] = Task.objects.using(db.alias()).filter(locked_by=None, failed_at=None)
    return rows


def ready(names: Collection[str], queues: Sequence[str] | None = None) -> bool:
    """Whether a row waits that could be claimed now, or was handed back for a moment."""
    now = timezone.now()
    due = Q(run_at__lte=now) | Q(run_at__lte=now + SUSPECTS_WAIT, last_error__startswith=LOST)
    rows = free().filter(due, task_name__in=list(names))
    return bool((rows.filter(queue__in=queues) if queues else rows).exists())


def unknown(names: Collection[str], queues: Sequence[str] | None = None) -> list[str]:
    """Names of waiting rows, at most ten, that this process has no task for.

    Only some of the rows are looked at: what nobody runs is soon all that is left of them.
    """
    rows = free().filter(run_at__lte=timezone.now())
    rows = (rows.filter(queue__in=queues) if queues else rows)[:UNKNOWN_AMONG]
    waiting = Task.objects.using(db.alias()).filter(pk__in=rows.values("pk"))
    others = waiting.exclude(task_name__in=list(names))
    return list(others.values_list("task_name", flat=True).distinct()[:10])


def change_priority(rows: QuerySet[Task], step: int) -> int:
    """Add to the priority of rows in the database, not to that of stale instances."""
    return rows.using(db.alias()).update(priority=F("priority") + step)
