"""Revocations: the runs that a worker is asked to end, as their tasks were revoked meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from bgtasks.clock import elapsed
from bgtasks.queue import outcomes
from bgtasks.worker.shared_state import Marks

# Seconds between two reads of the table of revocations, while a task runs.
CHECK_EVERY = 1.0
# For how many seconds a revoked row that has not begun may still begin. A worker that has claimed
# a row less than `STALE` seconds ago starts it without asking whether the claim still holds; see
# `bgtasks.worker.runner`. This is somewhat more.
PENDING = 3.0


class Revocations:
    """The revocations for one worker, until their runs are marked, or cannot begin any more."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._until: dict[int, float] = {}

    def heed(self, worker: str, marks: Sequence[Marks]) -> list[Marks]:
        """Mark the runs that were revoked, if it is time to read the table again.

        Args:
            worker: the worker's name.
            marks: the marks of all its processes.

        Returns:
            Those in which a run was marked.

        Raises:
            DatabaseError, InterfaceError: the database does not answer.
        """
        busy = [each for each in marks if each.busy]
        if not busy or elapsed() < self._look_at:
            return []
        self._look_at = elapsed() + CHECK_EVERY
        now = elapsed()
        self._until |= dict.fromkeys(outcomes.revoked(worker), now + PENDING)
        self._until = {row_id: until for row_id, until in self._until.items() if until > now}
        if not self._until:
            return []
        found = {each: each.revoke(self._until.keys()) for each in busy}
        for row_ids in found.values():
            for row_id in row_ids:
                self._until.pop(row_id, None)
        return [each for each, row_ids in found.items() if row_ids]
