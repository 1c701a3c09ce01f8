"""Rows that were published for a fleet: who still holds them, and taking one over.

Such a row is held by a relay, and it waits: its attempt is counted when a process of the fleet
takes it over. What may be done to a row that waits may be done to it too. Whoever changes it
recalls it, which frees it, so that it is claimed as it is then, and its message is void.
"""

from __future__ import annotations

from django.db.models import Q

from bgtasks.clock import elapsed
from bgtasks.models import Task
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import NO_OPTIONS, ClaimedRow, read_options
from bgtasks.queue.pauses import NOT_PAUSED

# What stands in claims of a relay for the number of a child. What it holds has not been started.
RELAY = "relay"
# SQL, for a statement with parameters, for whether a worker holds a row that is no relay.
IS_RUNNING = f"(locked_by IS NOT NULL AND locked_by NOT LIKE '%%.{RELAY}-%%')"
IS_PUBLISHED = f"(locked_by IS NOT NULL AND locked_by LIKE '%%.{RELAY}-%%')"
# SQL, for a statement with parameters, for whether a row in the queue waits, and what frees it.
WAITS = f"(locked_by IS NULL OR {IS_PUBLISHED}) AND failed_at IS NULL"
RECALL = "locked_by = NULL, locked_at = NULL"
RECALLED = {"locked_by": None, "locked_at": None}


def is_published(claim: str | None) -> bool:
    """Whether a claim is a relay's: its row was published, and nobody has started it."""
    return f".{RELAY}-" in (claim or "")


def is_running(claim: str | None) -> bool:
    """Whether a claim is that of a worker that runs its rows, and no relay's."""
    return bool(claim) and not is_published(claim)


def waiting() -> Q:
    """As a condition for Django: whether a row in the queue waits."""
    return (Q(locked_by=None) | Q(locked_by__contains=f".{RELAY}-")) & Q(failed_at=None)


def held(prefix: str) -> tuple[set[int], list[Task]]:
    """The rows that are held by claims with this prefix.

    Returns:
        Their ids, and those of the rows that are in a paused queue, with their claims.
    """
    where, params = db.held_by(prefix)
    sql = f"SELECT id, locked_by, {NOT_PAUSED} FROM {db.TASKS} WHERE {where}"
    found = db.fetch(sql, params)
    paused = [Task(pk=pk, locked_by=claim) for pk, claim, may_start in found if not may_start]
    return {pk for pk, *_ in found}, paused


def any_runs() -> bool:
    """Whether any row is held by a worker that is no relay."""
    ours, params = db.claimed_by_ours()
    sql = f"SELECT 1 FROM {db.TASKS} WHERE {ours} AND {IS_RUNNING} LIMIT 1"
    return bool(db.fetch(sql, params))


def take_over(row_id: int, token: str, claim: str, worker: str) -> ClaimedRow | None:
    """Take a published row from its relay, and count the attempt.

    Args:
        token: the claim by which the relay held the row when it was published.
        claim: the value that ``locked_by`` gets.
        worker: the worker that takes it. If it is not in the workers' table, nothing is taken.

    Returns:
        The row; None if it is not held by that claim any more, so that the message is void, or if
        its queue is paused.
    """
    began = elapsed()
    options = f"(SELECT options FROM {db.OPTIONS} WHERE task_id = {db.TASKS}.id)"
    found = db.fetch(
        f"UPDATE {db.TASKS} SET locked_by = %s, locked_at = {db.clock()}, "
        f"attempts = {db.one_attempt_more()} WHERE id = %s AND locked_by = %s AND {NOT_PAUSED} "
        f"AND EXISTS (SELECT 1 FROM {db.WORKERS} WHERE name = %s) "
        f"RETURNING {db.columns()}, CAST({db.TASKS}.run_at AS text), {options}",
        [claim, row_id, token, worker],
    )
    if not found:
        return None
    (values,) = found
    [row] = db.instances([values[:-2]])
    given = NO_OPTIONS if values[-1] is None else read_options(values[-1], row.task_params)
    return ClaimedRow(row, began, given, due=values[-2])
