"""Which rows a child has begun, written where its parent can read it after the child's death.

One page of shared memory for each child, made before the fork. A slot is taken when a run
starts and given back when its ending is in the database: whatever is marked when a child dies
may have run, and whatever is not has never started.
"""

from __future__ import annotations

import math
import mmap
import struct
import threading
from collections.abc import Collection, Iterator, Sequence

from bgtasks.clock import elapsed

_FLAG = struct.Struct("=q")
# The row's id, 0 for none; when it began, infinity once it has run; its limit, 0 for none; the
# seconds that it has to end by itself when it is revoked; which row was revoked, for the slot may
# be another's by now; and when.
_SLOT = struct.Struct("=qdddqd")
_BEGAN = struct.Struct("=d")
_BEGAN_AT = 8
_REVOKED = struct.Struct("=qd")
_REVOKED_AT = 32  # where in a slot
_HEADER = 6 * _FLAG.size


class Marks:
    """The marks of one child.

    The child writes the slots; the parent writes the flags, and what it revokes.

    Args:
        slots: how many rows can be begun and not yet recorded at the same time.
    """

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, _HEADER + slots * _SLOT.size)
        self._slots_in_all = slots
        self._free = list(range(slots - 1, -1, -1))
        self._lock = threading.Lock()

    def begin(self, row_id: int, limit: float | None, patience: float = 0.0) -> int:
        """Mark a row as begun.

        Args:
            limit: the seconds that it may take.
            patience: the seconds that it has to end by itself when it is revoked.
        """
        with self._lock:
            slot = self._free.pop()
            self._count()
        place = _HEADER + slot * _SLOT.size
        _SLOT.pack_into(self._memory, place, row_id, elapsed(), limit or 0.0, patience, 0, 0.0)
        return slot

    def ran(self, slot: int) -> None:
        """What was begun has come to its end, in time, and waits to be recorded."""
        _BEGAN.pack_into(self._memory, _HEADER + slot * _SLOT.size + _BEGAN_AT, math.inf)

    def end(self, slots: Sequence[int]) -> None:
        """Their endings are in the database."""
        for slot in slots:
            _SLOT.pack_into(self._memory, _HEADER + slot * _SLOT.size, 0, 0.0, 0.0, 0.0, 0, 0.0)
        with self._lock:
            self._free.extend(slots)
            self._count()

    def _count(self) -> None:
        _FLAG.pack_into(self._memory, 3 * _FLAG.size, self._slots_in_all - len(self._free))

    @property
    def busy(self) -> bool:
        """Whether anything is begun and not yet recorded. Costs less than to ask what."""
        return bool(_FLAG.unpack_from(self._memory, 3 * _FLAG.size)[0])

    def begun(self) -> set[int]:
        """The rows that are begun and not yet recorded."""
        return {row_id for row_id, *_ in self._slots() if row_id}

    def overdue(self) -> dict[int, float]:
        """Those of them that run longer than they may, with their limits in seconds.

        Those that were revoked too, with 0, once they had the time to end by themselves.
        """
        now = elapsed()
        found = {}
        for row_id, began, limit, patience, revoked, revoked_at in self._slots():
            if not row_id or began == math.inf:
                continue
            if row_id == revoked and now > revoked_at + patience:
                found[row_id] = 0.0
            elif limit and now > began + limit:
                found[row_id] = limit
        return found

    def revoke(self, row_ids: Collection[int]) -> set[int]:
        """Mark rows as revoked; returns those that are begun here."""
        found = set()
        for slot, (row_id, *_) in enumerate(self._slots()):
            if row_id in row_ids:
                place = _HEADER + slot * _SLOT.size + _REVOKED_AT
                _REVOKED.pack_into(self._memory, place, row_id, elapsed())
                found.add(row_id)
        if found:
            _FLAG.pack_into(self._memory, 4 * _FLAG.size, 1)
        return found

    def revoked(self) -> list[int]:
        """The begun rows that were revoked, if that is news."""
        if not _FLAG.unpack_from(self._memory, 4 * _FLAG.size)[0]:
            return []
        _FLAG.pack_into(self._memory, 4 * _FLAG.size, 0)
        return [row_id for row_id, *_, revoked, _ in self._slots() if row_id and row_id == revoked]

    def _slots(self) -> Iterator[tuple[int, float, float, float, int, float]]:
        return _SLOT.iter_unpack(self._memory[_HEADER:])

    @property
    def retiring(self) -> bool:
        """Whether the child is to start nothing more, because it is going to be ended."""
        return bool(_FLAG.unpack_from(self._memory, 0)[0])

    @retiring.setter
    def retiring(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, 0, value)

    @property
    def slow(self) -> bool:
        """Whether the child is to rest between tasks (SIGUSR2)."""
        return bool(_FLAG.unpack_from(self._memory, _FLAG.size)[0])

    @slow.setter
    def slow(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, _FLAG.size, value)

    @property
    def cancelling(self) -> bool:
        """Whether the child is to cancel its coroutines, because its time is nearly up."""
        return bool(_FLAG.unpack_from(self._memory, 2 * _FLAG.size)[0])

    @cancelling.setter
    def cancelling(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, 2 * _FLAG.size, value)

    @property
    def stopping(self) -> bool:
        """Whether the child is to end once what runs has ended."""
        return bool(_FLAG.unpack_from(self._memory, 5 * _FLAG.size)[0])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, 5 * _FLAG.size, value)

    def close(self) -> None:
        self._memory.close()
