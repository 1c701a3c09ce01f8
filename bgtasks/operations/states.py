"""The states in which an operator sees a task, and how they are read from the tables."""

from __future__ import annotations

from enum import StrEnum

from bgtasks.queue.deliveries import IS_RUNNING


class State(StrEnum):
    """Where a task stands.

    WAITING: it is due, and no worker has it. SCHEDULED: it is not due yet. RUNNING: a worker has
    claimed it. RETRYING: it has been tried, and waits to be tried again. The others have ended.
    """

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
QUEUED = tuple(state for state in State if state not in ENDED)

# SQL for the state of a row of the task table. Its one parameter is the present.
OF_QUEUED = (
    f"CASE WHEN {IS_RUNNING} THEN '{State.RUNNING}' "
    f"WHEN attempts > 0 THEN '{State.RETRYING}' "
    f"WHEN run_at > %s THEN '{State.SCHEDULED}' ELSE '{State.WAITING}' END"
)
