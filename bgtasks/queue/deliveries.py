"""Rows that were published for a fleet: who still holds them, and taking one over."""

from __future__ import annotations

from bgtasks.clock import elapsed
from bgtasks.queue import database as db
from bgtasks.queue.claimed_row import NO_OPTIONS, ClaimedRow, read_options

# What stands in claims of a relay for the number of a child. What it holds has not been started.
RELAY = "relay"
# SQL, for a statement with parameters, for whether a worker holds a row that is no relay.
IS_RUNNING = f"(locked_by IS NOT NULL AND locked_by NOT LIKE '%%.{RELAY}-%%')"


def is_published(claim: str | None) -> bool:
    """Whether a claim is a relay's: its row was published, and nobody has started it."""
    return f".{RELAY}-" in (claim or "")


def held(prefix: str) -> set[int]:
    """The ids of the rows that are held by claims with this prefix."""
    where, params = db.held_by(prefix)
    return {pk for (pk,) in db.fetch(f"SELECT id FROM {db.TASKS} WHERE {where}", params)}


def any_runs() -> bool:
    """Whether any row is held by a worker that is no relay."""
    ours, params = db.claimed_by_ours()
    sql = f"SELECT 1 FROM {db.TASKS} WHERE {ours} AND {IS_RUNNING} LIMIT 1"
    return bool(db.fetch(sql, params))


def take_over(row_id: int, token: str, claim: str, worker: str) -> ClaimedRow | None:
    """Take a published row from its relay.

    Args:
        token: the claim by which the relay held the row when it was published.
        claim: the value that ``locked_by`` gets.
        worker: the worker that takes it. If it is not in the workers' table, nothing is taken.

    Returns:
        The row; None if it is not held by that claim any more, so that the message is void.
    """
    began = elapsed()
    options = f"(SELECT options FROM {db.OPTIONS} WHERE task_id = {db.TASKS}.id)"
    found = db.fetch(
        f"UPDATE {db.TASKS} SET locked_by = %s, locked_at = {db.clock()} "
        "WHERE id = %s AND locked_by = %s "
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
