"""What the runs of jobs tell the adapter: nine bytes a time, through a pipe.

The worker inherits its writing end. A pipe takes no room, however long a run lasts, and so short a
write is never mixed with another one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

VARIABLE = "BGTASKS_BENCH_REPORTS"
RECORD = struct.Struct("=Bd")


class Event(IntEnum):
    """What happened to a job; the seconds that are told besides are those since it was due."""

    STARTED = 1
    ENDED = 2
    FAILED = 3  # an attempt that the plan lets fail
    EXHAUSTED = 4  # the same, and it was the last attempt of a job that fails always
    RECOVERED = 5  # a job that the plan had let fail before
    HERD_STARTED = 6
    HERD_ENDED = 7


def tell(event: Event, seconds: float = 0.0) -> None:
    """Report from a run. If the adapter is dead, the run goes on, as it would for any user."""
    with suppress(BrokenPipeError):
        os.write(int(os.environ[VARIABLE]), RECORD.pack(event, seconds))


def hear(descriptor: int, take: Callable[[Event, float], None]) -> None:
    """Take every report, until nobody can report any more."""
    rest = b""
    while chunk := os.read(descriptor, 1 << 16):
        rest += chunk
        whole = len(rest) - len(rest) % RECORD.size
        for event, seconds in RECORD.iter_unpack(rest[:whole]):
            take(Event(event), seconds)
        rest = rest[whole:]
    os.close(descriptor)
