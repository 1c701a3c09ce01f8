"""The clock by which a process knows how long it was away.

``CLOCK_BOOTTIME`` goes on while the machine is suspended, as the database's does;
``time.monotonic()`` does not. A laptop that was closed or a virtual machine that was paused
past its lease must notice.
"""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Seconds since some fixed moment, the same for all processes of this machine."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
