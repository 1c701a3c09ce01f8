"""Where tasks stand at this moment, for whoever watches them: many tasks by a few statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone

from bgtasks.operations.states import ENDED, OF_QUEUED, State
from bgtasks.operations.unserved import PATIENCE, living
from bgtasks.queue import database as db
from bgtasks.queue import progress
from bgtasks.tasks.current import Progress

# A task that has been due for so many seconds, and has not begun, takes longer than usual.
USUAL = 20.0
_STATES = frozenset(State)


@dataclass(frozen=True)
class Snapshot:
    """Where a task stands.

    Attributes:
        attempts: how many runs there were, with the one under way.
        progress: what its latest run has reported last; None if it has reported nothing.
        delayed: it takes longer than usual: no worker runs, or it has been due for `USUAL` seconds,
            or the worker that has it does not renew its lease.
    """

    state: State
    attempts: int = 0
    progress: Progress | None = None
    delayed: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def of(ids: Sequence[int]) -> dict[int, Snapshot]:
    """Where each of the tasks stands; those that do not exist, or not any more, lack.

    Args:
        ids: at least one, in any number: there are four statements at most.
    """
    members = db.members(ids)
    rows = db.fetch(_sql(), [db.moment(timezone.now()), members, members])
    # While an ending is recorded, a task may be found in both tables. Then its outcome counts.
    rows.sort(key=lambda row: row[1] in ENDED)
    waiting = [row[0] for row in rows if row[1] not in ENDED]
    reports = progress.read_many(waiting) if waiting else {}
    alive = {worker.name for worker in living()} if waiting else set()
    return {
        pk: Snapshot(State(state), attempts, reports.get(pk), _delayed(state, claim, age, alive))
        for pk, state, attempts, claim, age in rows
        if state in _STATES  # somebody may have written another one by hand
    }


def _sql() -> str:
    return (
        f"SELECT id, {OF_QUEUED}, attempts, locked_by, {db.age('run_at')} FROM {db.TASKS} "
        f"WHERE {db.is_member('id', 'bigint')} AND failed_at IS NULL UNION ALL "
        f"SELECT task_id, state, attempts, NULL, NULL FROM {db.OUTCOMES} "
        f"WHERE {db.is_member('task_id', 'bigint')} AND {db.is_current()}"
    )


def _delayed(state: str, claim: Any, age: Any, alive: set[str]) -> bool:
    """Whether a task takes longer than usual.

    Args:
        claim: the one that holds it.
        age: seconds since it was due.
        alive: the names of the workers that live.
    """
    if state == State.RUNNING:
        return str(claim).partition(".")[0] not in alive
    due_for = float(age) if isinstance(age, int | float | Decimal) else 0.0
    return due_for > (USUAL if alive else PATIENCE)
