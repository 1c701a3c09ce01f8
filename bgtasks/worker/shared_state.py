"""Memory that a child shares with its parent, which can read it after the child's death.

In it the child marks the rows that it has begun. A slot is taken when a run starts and freed when
its ending is in the database. So when a child dies, the rows that are marked may have run, and all
others have never started. The memory is made before the fork, one for each child.
"""

from __future__ import annotations

import math
import mmap
import struct
import threading
from collections.abc import Collection, Iterator, Sequence

from bgtasks.clock import elapsed

_FLAG = struct.Struct("=q")
# The fields of a slot. Times are by `elapsed`, limits in seconds.
# 1. The row's id, which may be any number, also 0.
# 2. When its run began; infinity once the function has returned or raised; 0 if the slot is free.
# 3. The limit of the run; 0 for none.
# 4. The seconds that the run has to end by itself if it is revoked.
# 5. The id of the row that was revoked. It is not the first field's if the slot was taken for
#    another row meanwhile.
# 6. When that was; 0 if none was revoked.
_SLOT = struct.Struct("=qdddqd")
_Slot = tuple[int, float, float, float, int, float]
# The second field alone, the third, and the last two, with their places in a slot.
_BEGAN = struct.Struct("=d")
_BEGAN_AT = 8
_LIMIT = struct.Struct("=d")
_LIMIT_AT = 16
_REVOKED = struct.Struct("=qd")
_REVOKED_AT = 32
# Before the slots there are the flags retiring, slow, cancelling, the number of slots taken, the
# flag that a row was newly revoked, and the flag stopping.
_HEADER = 6 * _FLAG.size


class Marks:
    """The marks of one child.

    The child writes the slots. The parent writes the flags, and in the slots which row is revoked.

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
            row_id: the row's id.
            limit: the seconds that its run may take; None for no limit.
            patience: the seconds that the run has to end by itself if it is revoked.

        Returns:
            The number of the slot, for `ran` and `end`.
        """
        with self._lock:
            slot = self._free.pop()
            self._count()
        place = _HEADER + slot * _SLOT.size
        _SLOT.pack_into(self._memory, place, row_id, elapsed(), limit or 0.0, patience, 0, 0.0)
        return slot

    def ran(self, slot: int) -> None:
        """Note that a run has ended and waits to be recorded: it cannot be overdue any more."""
        _BEGAN.pack_into(self._memory, _HEADER + slot * _SLOT.size + _BEGAN_AT, math.inf)

    def end(self, slots: Sequence[int]) -> None:
        """Free slots: the endings of their runs are in the database."""
        for slot in slots:
            _SLOT.pack_into(self._memory, _HEADER + slot * _SLOT.size, 0, 0.0, 0.0, 0.0, 0, 0.0)
        with self._lock:
            self._free.extend(slots)
            self._count()

    def _count(self) -> None:
        _FLAG.pack_into(self._memory, 3 * _FLAG.size, self._slots_in_all - len(self._free))

    @property
    def busy(self) -> bool:
        """Whether a row is begun and not yet recorded. It is cheaper than `begun`."""
        return bool(_FLAG.unpack_from(self._memory, 3 * _FLAG.size)[0])

    def begun(self) -> set[int]:
        """The ids of the rows that are begun and not yet recorded."""
        return {row_id for row_id, *_ in _taken(self._slots())}

    def overdue(self) -> dict[int, float]:
        """The rows that run longer than they may: their ids, and their limits in seconds.

        A row that was revoked is among them, with a limit of 0, once the time is over that it had
        to end by itself.
        """
        now = elapsed()
        found = {}
        for row_id, began, limit, patience, revoked, revoked_at in _taken(self._slots()):
            if began == math.inf:
                continue
            if row_id == revoked and revoked_at and now > revoked_at + patience:
                found[row_id] = 0.0
            elif limit and now > began + limit:
                found[row_id] = limit
        return found

    def revoke(self, row_ids: Collection[int]) -> set[int]:
        """Mark rows as revoked. Returns the ids of those that this child has begun."""
        found = set()
        for slot, (row_id, began, *_) in enumerate(self._slots()):
            if began and row_id in row_ids:
                place = _HEADER + slot * _SLOT.size + _REVOKED_AT
                _REVOKED.pack_into(self._memory, place, row_id, elapsed())
                found.add(row_id)
        if found:
            _FLAG.pack_into(self._memory, 4 * _FLAG.size, 1)
        return found

    def revoked(self) -> list[int]:
        """The ids of begun rows that are revoked; none if none was revoked since the last call."""
        if not _FLAG.unpack_from(self._memory, 4 * _FLAG.size)[0]:
            return []
        _FLAG.pack_into(self._memory, 4 * _FLAG.size, 0)
        return [
            row_id for row_id, *_, revoked, at in _taken(self._slots()) if at and row_id == revoked
        ]

    def _slots(self) -> Iterator[_Slot]:
        return _SLOT.iter_unpack(self._memory[_HEADER:])

    @property
    def retiring(self) -> bool:
        """Whether the child is to start no further rows, because a run in it is overdue."""
        return bool(_FLAG.unpack_from(self._memory, 0)[0])

    @retiring.setter
    def retiring(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, 0, value)

    @property
    def slow(self) -> bool:
        """Whether the child is to pause between tasks (SIGUSR2)."""
        return bool(_FLAG.unpack_from(self._memory, _FLAG.size)[0])

    @slow.setter
    def slow(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, _FLAG.size, value)

    @property
    def cancelling(self) -> bool:
        """Whether the child is to cancel its coroutines: the grace period is nearly over."""
        return bool(_FLAG.unpack_from(self._memory, 2 * _FLAG.size)[0])

    @cancelling.setter
    def cancelling(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, 2 * _FLAG.size, value)

    @property
    def stopping(self) -> bool:
        """Whether the child is to end as soon as its running tasks have ended."""
        return bool(_FLAG.unpack_from(self._memory, 5 * _FLAG.size)[0])

    @stopping.setter
    def stopping(self, value: bool) -> None:
        _FLAG.pack_into(self._memory, 5 * _FLAG.size, value)

    def close(self) -> None:
        self._memory.close()


def set_limit(marks: Marks, slot: int, limit: float) -> None:
    """Set the seconds that a run which was begun may take, counted from its start."""
    _LIMIT.pack_into(marks._memory, _HEADER + slot * _SLOT.size + _LIMIT_AT, limit)


def begin_anew(marks: Marks, slot: int, limit: float) -> None:
    """Let the time of a run begin now: it had to wait until now, and may take so many seconds."""
    _BEGAN.pack_into(marks._memory, _HEADER + slot * _SLOT.size + _BEGAN_AT, elapsed())
    set_limit(marks, slot, limit)


def running(marks: Marks) -> dict[int, float]:
    """The rows whose runs have not ended: their ids, and when they began, by `elapsed`."""
    taken = _taken(marks._slots())
    return {row_id: began for row_id, began, *_ in taken if began != math.inf}


def has_room(marks: Marks) -> bool:
    """Whether a further row can be begun."""
    return bool(marks._free)


def _taken(slots: Iterator[_Slot]) -> Iterator[_Slot]:
    return (slot for slot in slots if slot[1])
