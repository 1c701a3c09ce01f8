"""Taking a dead worker's rows back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta

from background_task.models import Task
from django.db import InterfaceError, OperationalError

from bgtasks.exceptions import TaskTimeout
from bgtasks.logs import get_logger
from bgtasks.models import Attempt, Worker
from bgtasks.queue import attempts, claims, workers
from bgtasks.queue import database as db
from bgtasks.queue.claims import LOST
from bgtasks.queue.counters import Counts
from bgtasks.queue.deliveries import is_published
from bgtasks.queue.ending import Ending, stopped_run
from bgtasks.queue.finish import record_alone
from bgtasks.serialize import remote_errors
from bgtasks.tasks import policies
from bgtasks.tasks.backoff import retry_delay

logger = get_logger(__name__)

# A task that was running when this many workers died is taken for their cause.
MOST_LOST = 3
# The ``last_error`` of a row begins like this if its run was lost, for the first time, together
# with all processes of its worker. That is seldom the fault of one task, so that it need not run
# alone the next time.
LOST_WITH_ALL = "Lost with its worker: "


def suspect(row: Task) -> bool:
    """Whether this row's last run was lost with its worker, so that it should run alone."""
    return bool(row.attempts > 1 and row.last_error.startswith(LOST))


def held(prefix: str) -> list[Task]:
    """The rows held by claims that begin with ``prefix``."""
    where, params = db.held_by(prefix)
    return db.instances(db.fetch(f"SELECT {db.columns()} FROM {db.TASKS} WHERE {where}", params))


def rescue(
    prefix: str,
    story: str,
    begun: Collection[int] | None = None,
    timed_out: Mapping[int, float] | None = None,
    stopped: bool = False,
) -> int:
    """Take back what a dead child or worker held, at once. See `rescue_in_steps`.

    Returns:
        How many rows were taken back.
    """
    return sum(rescue_in_steps(prefix, story, begun, timed_out, stopped))


def rescue_in_steps(
    prefix: str,
    story: str,
    begun: Collection[int] | None = None,
    timed_out: Mapping[int, float] | None = None,
    stopped: bool = False,
) -> Iterator[int]:
    """Take back the rows that a dead child, or a dead worker, held, one step after another.

    Between two steps the caller may send a heartbeat, for receivers of a row's signals may take
    long.

    Each row that had been started is recorded in a transaction of its own. Rows that are not
    reached, because the database or this process goes away, are found later by `rescue_orphans`.

    Args:
        prefix: what the claims of the dead one begin with.
        story: what happened to it, as the beginning of a sentence; it becomes part of the text
            that is kept of each run.
        begun: the ids of the rows that had been started; the others get their attempt refunded.
            None if nobody knows: then every row counts as started.
        timed_out: those of the started rows that ran too long, for which the child was ended, with
            their limits in seconds.
        stopped: the dead one was ended on purpose, by an operator or because of another task: no
            task is suspected of having killed it.

    Yields:
        How many rows a step has taken back.

    Raises:
        OperationalError: on PostgreSQL, somebody has locked some of the rows. All others are taken
            back.
    """
    rows = [row for row in held(prefix) if (row.pk, row.locked_by) not in _given_up]
    started = [row for row in rows if _had_begun(row, begun)]
    in_the_way: OperationalError | None = None
    counts = Counts(prefix.partition(".")[0])
    for row in started:
        if timed_out and row.pk in timed_out:
            ending = timeout(row, timed_out[row.pk])
        elif stopped:
            ending = stopped_run(row, f"{story} while this ran.")
        else:
            ending = _lost(row, story, len(started), with_all=begun is None)
        try:
            _record_or_give_up(ending, counts)
        except OperationalError as error:
            if not db.is_lock_timeout(error):
                raise
            in_the_way = error
        yield 1
    if len(started) < len(rows):
        claims.release([row for row in rows if not _had_begun(row, begun)])
        yield len(rows) - len(started)
    counts.flush()
    if in_the_way:
        raise in_the_way


def _had_begun(row: Task, begun: Collection[int] | None) -> bool:
    if begun is None:
        return not is_published(row.locked_by)
    return row.pk in begun


# The ids and claims of rows whose endings cannot be recorded. They stay locked: if they were handed
# back as unstarted instead, they would run again, and fail to be recorded again, without end.
_given_up: set[tuple[int, str | None]] = set()


def _record_or_give_up(ending: Ending, counts: Counts) -> None:
    """Record an ending, and count it; if that cannot be done, log it and give the row up.

    Raises:
        OperationalError, InterfaceError: the database is away, or somebody has locked the row.
    """
    row = ending.row
    try:
        if record_alone(ending):
            counts.count([ending])
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # it cannot be stored, or a receiver broke the transaction
        logger.exception("Task %s (id %s) cannot be taken back; it stays locked.", row, row.pk)
        _given_up.add((row.pk, row.locked_by))


def timeout(row: Task, limit: float) -> Ending:
    """The ending of a run that took longer than ``limit`` seconds and was ended with its child."""
    text = f"Timed out: it ran longer than {limit:g} s and was ended with its process."
    policy = policies.of(row.task_name)
    # A backoff that is a function is code of the project, which only a worker may call.
    backoff = None if callable(policy.backoff) else policy.backoff
    again = row.attempts < policy.most_attempts
    delay = retry_delay(row.attempts, backoff) if again else None
    error = remote_errors.describe(TaskTimeout(text))
    return Ending(row, Attempt.State.TIMED_OUT, text, delay, exception=error)


def _lost(row: Task, story: str, beside: int, with_all: bool) -> Ending:
    lost = attempts.count(row.pk, row.attempts - 1, Attempt.State.LOST) + 1
    company = f" (one of {beside})" if beside > 1 else ""
    begin = LOST_WITH_ALL if with_all and lost == 1 else LOST
    text = f"{begin}{story} while attempt {row.attempts} of this task ran{company}."
    if lost >= MOST_LOST:
        text += f" It has cost {lost} workers and is not tried again."
        return Ending(row, Attempt.State.LOST, text)
    if policies.of(row.task_name).on_worker_lost == "fail":
        text += ' It is not run again, for it says on_worker_lost="fail".'
        return Ending(row, Attempt.State.LOST, text)
    # The first loss is as a rule not the task's fault, so that it runs again at once.
    delay = timedelta(0) if lost == 1 else retry_delay(lost)
    return Ending(row, Attempt.State.LOST, text, delay)


def rescue_worker(peer: workers.Peer, gone: bool = False) -> Iterator[int] | None:
    """Declare a worker dead, and take its rows back in steps. See `rescue_in_steps`.

    Args:
        peer: the worker.
        gone: all its processes are known to have ended; otherwise its lease must have run out.

    Returns:
        The steps, each with the number of rows that it takes back; None if this process did not
        declare it dead, because it lives or another worker was faster.
    """
    if not workers.bury(peer, gone):
        return None
    how = "was killed" if gone else "sent no heartbeat for the length of its lease"
    return rescue_in_steps(f"{peer.name}.", f"{peer} {how}")


def release_strays(worker: str, children: Collection[int | str]) -> int:
    """Hand back the rows that dead children claimed after their rows had been rescued.

    If a child is killed while it claims, the database may carry out the claim later, when the
    rescue of the child's rows is over. No row of such a claim has been started.

    Args:
        worker: the name of our own worker.
        children: the numbers of the children that live, or are still to be rescued.

    Returns:
        How many rows were handed back.
    """
    where, params = db.held_by(f"{worker}.")
    found = db.fetch(f"SELECT DISTINCT locked_by FROM {db.TASKS} WHERE {where}", params)
    prefixes = {str(claim).rpartition("-")[0] for (claim,) in found}
    strays = prefixes - {f"{worker}.{number}" for number in children}
    return sum(rescue(f"{prefix}-", "its child was dead", begun=()) for prefix in strays)


def rescue_orphans(lease: float) -> int:
    """Take back rows whose claims name a worker that is not in the workers' table.

    Such rows are left when a rescue was broken off, or when the workers' table was emptied by hand
    or made anew.

    Args:
        lease: seconds; only rows are taken whose ``locked_at`` is older, or cannot be read.

    Returns:
        How many rows were taken back.
    """
    ours, params = db.claimed_by_ours()
    known = set(Worker.objects.using(db.alias()).values_list("name", flat=True))
    age = db.age("locked_at")
    old = f"COALESCE(NOT ({age} BETWEEN -{db.SKEW} AND %s), 1 = 1)"
    sql = f"SELECT DISTINCT locked_by FROM {db.TASKS} WHERE {ours} AND {old}"
    names = {claim.partition(".")[0] for (claim,) in db.fetch(sql, [*params, lease])}
    story = "worker {} is not in the workers' table"
    return sum(rescue(f"{name}.", story.format(name)) for name in names - known)
