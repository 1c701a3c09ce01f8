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
from bgtasks.queue.deliveries import IS_PUBLISHED, RECALL
from bgtasks.queue.frontier import Frontier
from bgtasks.queue.pauses import NOT_PAUSED

# The ``last_error`` of a row whose run was lost with its worker begins like this. A worker tries to
# run such a row alone: if it kills its worker again, no other run is lost with it.
LOST = "Lost: "
# A worker that cannot run such a row alone now hands it back, to be ready again after this long.
SUSPECTS_WAIT = timedelta(seconds=1)
# How many waiting rows are searched for tasks that this process does not know.
UNKNOWN_AMONG = 10_000


@dataclass(frozen=True)
class Claimant:
    """The child process of a worker, or a relay, in whose name rows are claimed.

    A claim, the row's ``locked_by``, is ``<worker>.<child>-<number>``. No two claims of a child
    have the same number: so a child that lost a row and claimed it again does not take the new
    claim for the old one.
    """

    worker: str
    child: int | str

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

    This is for a single claim. A worker, which claims again and again, keeps a `Frontier`.

    Args:
        token: the value that ``locked_by`` gets.
        names: the names of the tasks that this process knows. Rows of other tasks wait for a
            worker that knows them.
        queues: claim only rows of these queues; None for all.
        worker: claim only while the worker of this name stands in the workers' table.
    """
    return [claimed.row for claimed in Frontier(names, queues, worker).take(token, limit)]


def claim_row(row: Task, token: str) -> bool:
    """Claim one row whatever its schedule, unless somebody holds it. This counts the attempt.

    Returns:
        Whether the row was claimed.
    """
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
    """Take a row from whoever holds it by ``claim``, without counting an attempt.

    Args:
        token: the value that ``locked_by`` gets.
        claim: the claim that must hold the row now; None: nobody may hold it.

    Returns:
        The claim that held the row before, or "" if it was free. None if the row was not held as
        ``claim`` says: then nothing was changed.
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
    """Those of the rows that nobody holds, or whose lock has expired."""
    return rows.exclude(locked_by__isnull=False, locked_at__gte=_expiry(now))


def locked(rows: QuerySet[Task], now: datetime) -> QuerySet[Task]:
    """Those of the rows that somebody holds by a lock that has not expired."""
    return rows.filter(locked_by__isnull=False, locked_at__gte=_expiry(now))


def _expiry(now: datetime) -> datetime:
    return now - timedelta(seconds=conf.upstream_lock_time())


def lock(row: Task, token: str) -> bool:
    """Lock a row that is due, and free or with an expired lock. This counts no attempt.

    Returns:
        Whether the row was locked.
    """
    now = timezone.now()
    free = unlocked(Task.objects.get_queryset(), now).filter(
        pk=row.pk, run_at__lte=now, failed_at=None
    )
    return bool(free.update(locked_by=token, locked_at=now))


def count_attempt(row: Task) -> None:
    """Count an attempt of a row that was taken by `lock`, which does not count it."""
    db.execute(f"UPDATE {db.TASKS} SET attempts = attempts + 1 WHERE id = %s", [row.pk])
    row.attempts += 1


def confirm(row: Task) -> bool:
    """Whether the database still has the row under the claim of this instance."""
    sql = f"SELECT 1 FROM {db.TASKS} WHERE id = %s AND locked_by = %s"
    return bool(db.fetch(sql, [row.pk, row.locked_by]))


def release(rows: Sequence[Task], delay: timedelta | None = None) -> int:
    """Hand back rows that were not started. If the claim has counted an attempt, it is refunded.

    Args:
        delay: how long until they are ready again; None: their ``run_at`` stays.

    Returns:
        How many of them were still held by our claims. The others are left as they are.
    """
    if not rows:
        return 0
    given, params = db.given(rows)
    attempts = f"CASE WHEN {IS_PUBLISHED} THEN attempts ELSE {db.one_attempt_less()} END"
    changes = f"{RECALL}, attempts = {attempts}"
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
    """Hand back the rows whose claims begin with a prefix and whose ids are not among ``known``.

    Returns:
        How many rows were handed back.
    """
    where, params = db.held_by(prefix)
    found = db.fetch(f"SELECT id, locked_by FROM {db.TASKS} WHERE {where}", params)
    return release([Task(pk=pk, locked_by=token) for pk, token in found if pk not in known])


def release_expired() -> int:
    """Unlock the rows that a worker of upstream locked and left behind; returns how many.

    Upstream's locks have no lease. Its own rule holds: a lock older than `MAX_RUN_TIME`, an hour
    by default, is void. It holds for every lock that is no claim of a worker of ours, and one
    without a date is as old as any.
    """
    ours, params = db.claimed_by_ours()
    expired = timezone.now() - timedelta(seconds=conf.upstream_lock_time())
    return db.execute(
        f"UPDATE {db.TASKS} SET locked_by = NULL, locked_at = NULL "
        f"WHERE locked_by IS NOT NULL AND (locked_at < %s OR locked_at IS NULL) AND NOT ({ours})",
        [db.moment(expired), *params],
    )


def free() -> QuerySet[Task]:
    """Rows that nobody holds, whether they are due or not."""
    rows: QuerySet[Task] = Task.objects.using(db.alias()).filter(locked_by=None, failed_at=None)
    return rows


def ready(names: Collection[str], queues: Sequence[str] | None = None) -> bool:
    """Whether a row waits that could be claimed now, or one that was just handed back.

    The latter is a row that must run alone; it is ready again within `SUSPECTS_WAIT`.
    """
    now = timezone.now()
    due = Q(run_at__lte=now) | Q(run_at__lte=now + SUSPECTS_WAIT, last_error__startswith=LOST)
    rows = free().filter(due, task_name__in=list(names)).extra(where=[NOT_PAUSED])  # noqa: S610
    return bool((rows.filter(queue__in=queues) if queues else rows).exists())


def unknown(names: Collection[str], queues: Sequence[str] | None = None) -> list[str]:
    """Names of tasks, at most ten, for which rows wait and which this process does not know.

    Only `UNKNOWN_AMONG` of the waiting rows are searched. A row that nobody can run is found all
    the same, sooner or later: it stays in the queue while the others are run.
    """
    rows = free().filter(run_at__lte=timezone.now())
    rows = (rows.filter(queue__in=queues) if queues else rows)[:UNKNOWN_AMONG]
    waiting = Task.objects.using(db.alias()).filter(pk__in=rows.values("pk"))
    others = waiting.exclude(task_name__in=list(names))
    return list(others.values_list("task_name", flat=True).distinct()[:10])


def change_priority(rows: QuerySet[Task], step: int) -> int:
    """Add ``step`` to the priority that rows have in the database; returns how many rows.

    An instance that was read earlier may show another priority than the database has by now.
    """
    return rows.using(db.alias()).update(priority=F("priority") + step)
