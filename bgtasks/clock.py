"""The clock by which a process measures time, also that for which its machine was suspended.

On Linux ``CLOCK_BOOTTIME`` goes on while the machine is suspended, and ``time.monotonic()`` does
not. The database's clock goes on too: so a worker on a laptop that was closed for longer than its
lease must notice that it has lost its rows.
"""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Seconds since some fixed moment, which is the same for all processes of this machine."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
