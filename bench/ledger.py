"""Where the tasks of every system write down that they ran: 16 bytes each, in one file.

A record is the task's number (8 bytes) and ``time.monotonic()`` in seconds (8 bytes), which all
processes of a host share. Appended in one write, so records of several processes stay whole.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

RECORD = struct.Struct("=qd")
VARIABLE = "BENCH_LEDGER"

_descriptor: int | None = None


def note(number: int) -> None:
    """Append a record. Opens the file at the first call of a process."""
    global _descriptor
    if _descriptor is None:
        _descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_descriptor, RECORD.pack(number, time.monotonic()))


@dataclass(frozen=True)
class Executions:
    """What a ledger says.

    Attributes:
        first: ``time.monotonic()`` of the first record, in seconds.
        last: the same of the last.
        duplicates: records beyond one for each task.
    """

    first: float
    last: float
    duplicates: int


class Ledger:
    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> int:
        """How many there are so far."""
        return self.path.stat().st_size // RECORD.size if self.path.exists() else 0

    def read(self, tasks: int) -> Executions:
        """Account for tasks 0 to ``tasks`` - 1; an error if one never ran."""
        records = list(RECORD.iter_unpack(self.path.read_bytes()))
        lost = set(range(tasks)) - {number for number, _ in records}
        assert not lost, f"{len(lost)} of {tasks} tasks never ran"
        times = [moment for _, moment in records]
        return Executions(min(times), max(times), len(records) - tasks)
