"""A process of a fleet, as the main process of its worker sees it: by memory that both share."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from contextlib import suppress
from pathlib import Path

from bgtasks.clock import elapsed
from bgtasks.queue.claims import Claimant
from bgtasks.worker.shared_state import Marks

_PID = struct.Struct("=q")
# So many runs more can be marked than may run at the same time: the mark of a run whose ending the
# database refuses stays.
SPARE = 100


class Seat:
    """What a process of a fleet has begun, and who it is. It is made before the process is forked.

    Args:
        number: the process's number in its worker. It stands in its claims, and is not used again.
        slots: how many rows the process can run at the same time.

    Attributes:
        marks: the rows that it has begun.
        started: when it was forked, by `bgtasks.clock.elapsed`.
        timed_out: the overdue rows for which it was killed, with their limits in seconds; 0 for one
            that was revoked.
        ended: whether the main process has killed it.
        dead: whether it was seen to be dead. Another process may have its number by now.
    """

    def __init__(self, number: int, slots: int) -> None:
        self.number = number
        self.marks = Marks(slots + SPARE)
        self.started = elapsed()
        self.timed_out: dict[int, float] = {}
        self.ended = self.dead = False
        self._memory = mmap.mmap(-1, _PID.size)

    @property
    def pid(self) -> int:
        """Its process id; 0 until the process has taken the seat."""
        return int(_PID.unpack_from(self._memory)[0])

    def take(self) -> None:
        """Note that the process that calls sits here."""
        _PID.pack_into(self._memory, 0, os.getpid())

    def prefix(self, worker: str) -> str:
        """What the claims of this process begin with."""
        return Claimant(worker, self.number).prefix

    def look(self) -> None:
        """See whether the process has died."""
        self.dead = self.dead or (self.pid != 0 and not _is_alive(self.pid))

    def end(self) -> None:
        """Kill the process, unless it has died."""
        if not self.dead:
            self.ended = True
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def was_asked_to_end(self) -> bool:
        """Whether it has not died by itself: no task is suspected of that."""
        return self.ended or self.marks.stopping

    @property
    def story(self) -> str:
        """What became of it, in words: the beginning of a sentence."""
        who = f"process {self.pid} of the fleet"
        if not self.timed_out:
            return f"{who} was asked to end" if self.marks.stopping else f"{who} was killed"
        why = "ran too long" if any(self.timed_out.values()) else "was revoked"
        return f"{who} was ended, for one of its tasks {why}"

    def close(self) -> None:
        self.marks.close()
        self._memory.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Its parent may not have waited for it yet.
        return " Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's, or there is no /proc
        return True
