"""What a worker is asked to end: runs whose tasks were called off while it had them."""

from __future__ import annotations

from collections.abc import Sequence

from bgtasks.clock import elapsed
from bgtasks.queue import outcomes
from bgtasks.worker.shared_state import Marks

# Seconds between looks, while anything is under way.
EVERY = 1.0
# How long a row that had not begun may still do so: as long as none is started without asking
# whether it is still ours (`worker.STALE`), and a little more.
PENDING = 3.0


class Revocations:
    """The requests to one worker, until they are met or have no object."""

    def __init__(self) -> None:
        self._look_at = 0.0
        self._until: dict[int, float] = {}

    def heed(self, worker: str, marks: Sequence[Marks]) -> list[Marks]:
        """Mark what was revoked, if it is time to look for that.

        Args:
            worker: its name.
            marks: of all its processes.

        Returns:
            Those in which something was marked.
        """
        busy = [each for each in marks if each.busy]
        if not busy or elapsed() < self._look_at:
            return []
        self._look_at = elapsed() + EVERY
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
